"""Whatever is given on the command line, in the environment or in a file: a Config, or a reason in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from etcdpy.server.config import HelpRequested, VersionRequested, load, no_effect_notes
from etcdpy.server.flag_table import FLAGS
from etcdpy.server.notes import ConfigError

if TYPE_CHECKING:
    import pytest

# Values that are close to something, and values that are not.
VALUES = st.one_of(
    st.sampled_from(
        [
            "",
            "0",
            "1",
            "-1",
            "true",
            "x",
            "5s",
            "1h",
            "http://127.0.0.1:1",
            "https://h:2",
            "unix://s",
            "a,b",
            "TLS1.3",
            "*",
        ]
    ),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
)
NAMES = st.sampled_from(sorted(FLAGS))
WORDS = st.one_of(st.builds("--{}={}".format, NAMES, VALUES), st.builds("-{}".format, NAMES), VALUES)
VARIABLES = st.dictionaries(st.sampled_from(sorted(flag.env for flag in FLAGS.values())), VALUES, max_size=4)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), VALUES)
TREES = st.dictionaries(
    st.one_of(NAMES, st.sampled_from(["client-transport-security", "discovery-config", "socket-options"]), VALUES),
    st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(NAMES, SCALARS, max_size=3)),
    max_size=5,
)


def loaded(argv: list[str], environ: dict[str, str]) -> None:
    try:
        config = load(argv, environ)
    except (HelpRequested, VersionRequested):
        return
    except ConfigError as caught:
        problem = caught
    else:
        assert config.data_dir
        assert config.request_timeout_seconds > 5
        assert config.auto_compaction_retention_ns >= 0
        no_effect_notes(config)
        repr(config)
        return
    assert problem.exit_code in (1, 2)
    assert str(problem).isprintable()


@given(st.lists(WORDS, max_size=5), VARIABLES)
def test_flags_and_environment(argv: list[str], environ: dict[str, str]) -> None:
    loaded(argv, {name: value for name, value in environ.items() if name != "ETCD_CONFIG_FILE"})


@settings(max_examples=60)
@given(st.one_of(TREES, st.text(max_size=60)))
def test_files(tmp_path_factory: pytest.TempPathFactory, tree: object) -> None:
    import yaml

    path = tmp_path_factory.getbasetemp() / "configuration.yml"
    path.write_bytes((tree if isinstance(tree, str) else yaml.safe_dump(tree)).encode("utf-8", "surrogatepass"))
    loaded([f"--config-file={path}"], {})
