"""`role`: what users may do."""

from __future__ import annotations

import os

import click

from etcdpy.client.keys import prefix_end
from etcdpy.commandline import Command, Exit, Failure, Group
from etcdpy.ctl.calls import ask, exactly, tell
from etcdpy.ctl.options import global_options
from etcdpy.ctl.session import Session


@click.group("role", cls=Group, globals_=global_options, short_help="Role related commands")
@click.pass_context
def role(ctx: click.Context) -> None:
    """Manage roles and what they permit."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@role.command("add", cls=Command, globals_=global_options, short_help="Adds a new role")
@click.argument("words", nargs=-1, metavar="<role name>")
@click.pass_context
def role_add(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Add a role, which permits nothing yet.

    \b
    Example:
      etcdpyctl role add reader
    """
    from etcdpy.proto import rpc_pb2

    (name,) = exactly(1, words, "role add command requires role name as its argument")
    tell(ctx, "ROLE_ADD", rpc_pb2.AuthRoleAddRequest(name=name), f"Role {name} created")


@role.command("delete", cls=Command, globals_=global_options, short_help="Deletes a role")
@click.argument("words", nargs=-1, metavar="<role name>")
@click.pass_context
def role_delete(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Delete a role; users lose it.

    \b
    Example:
      etcdpyctl role delete reader
    """
    from etcdpy.proto import rpc_pb2

    (name,) = exactly(1, words, "role delete command requires role name as its argument")
    tell(ctx, "ROLE_DELETE", rpc_pb2.AuthRoleDeleteRequest(role=name), f"Role {name} deleted")


@role.command("get", cls=Command, globals_=global_options, short_help="Gets detailed information of a role")
@click.argument("words", nargs=-1, metavar="<role name>")
@click.pass_context
def role_get(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show what a role permits.

    \b
    Example:
      etcdpyctl role get reader
    """
    (name,) = exactly(1, words, "role get command requires role name as its argument")
    from etcdpy.ctl.auth_answers import role_answer

    session = Session(ctx)
    session.show(role_answer(session, name))


@role.command("list", cls=Command, globals_=global_options, short_help="Lists all roles")
@click.argument("words", nargs=-1, metavar="")
@click.pass_context
def role_list(ctx: click.Context, words: tuple[str, ...]) -> None:
    """List the roles.

    \b
    Example:
      etcdpyctl role list
    """
    from etcdpy.ctl.auth_answers import RolesAnswer
    from etcdpy.proto import rpc_pb2

    exactly(0, words, "role list command requires no arguments")
    session = Session(ctx)
    session.show(RolesAnswer(ask(session, "ROLE_LIST", rpc_pb2.AuthRoleListRequest())))


def _permitted_range(words: tuple[str, ...], *, prefix: bool, from_key: bool) -> tuple[bytes, bytes]:
    """Key and range_end of a permission; the empty key, which no key has, becomes the first one that there can be."""
    both = "--from-key and --prefix flags are mutually exclusive"
    key = os.fsencode(words[0])
    if prefix and from_key and (not key or len(words) == 1):
        raise Failure(Exit.BAD_ARGUMENTS, both)
    if not key:
        return b"\0", b"\0" if prefix or from_key else b""
    if len(words) == 1:
        return key, prefix_end(key) if prefix else b"\0" if from_key else b""
    if prefix or from_key:
        raise Failure(
            Exit.BAD_ARGUMENTS, f"unexpected endkey argument with --{'prefix' if prefix else 'from-key'} flag"
        )
    return key, os.fsencode(words[1])


@role.command("grant-permission", cls=Command, globals_=global_options, short_help="Grants a key to a role")
@click.option("--prefix", is_flag=True, help="grant a prefix permission")
@click.option("--from-key", is_flag=True, help="grant a permission of all keys from the given one on, by byte order")
@click.argument("words", nargs=-1, metavar="<role name> <permission type> <key> [endkey]")
@click.pass_context
def role_grant_permission(ctx: click.Context, prefix: bool, from_key: bool, words: tuple[str, ...]) -> None:
    """Permit a role to read, write or readwrite a key or a range of keys.

    \b
    Examples:
      etcdpyctl role grant-permission reader read /config/ --prefix
      etcdpyctl role grant-permission owner readwrite a z
    """
    from etcdpy.proto import rpc_pb2
    from etcdpy.proto.auth_pb2 import Permission

    if len(words) < 3:
        text = "role grant command requires role name, permission type, and key [endkey] as its argument"
        raise Failure(Exit.BAD_ARGUMENTS, text)
    kinds = dict(Permission.Type.items())
    if words[1].upper() not in kinds:
        raise Failure(Exit.BAD_ARGUMENTS, f"invalid permission type: {words[1]}")
    key, end = _permitted_range(words[2:], prefix=prefix, from_key=from_key)
    permission = Permission(permType=kinds[words[1].upper()], key=key, range_end=end)
    request = rpc_pb2.AuthRoleGrantPermissionRequest(name=words[0], perm=permission)
    tell(ctx, "ROLE_GRANT_PERMISSION", request, f"Role {words[0]} updated")


@role.command("revoke-permission", cls=Command, globals_=global_options, short_help="Revokes a key from a role")
@click.option("--prefix", is_flag=True, help="revoke a prefix permission")
@click.option("--from-key", is_flag=True, help="revoke a permission of all keys from the given one on, by byte order")
@click.argument("words", nargs=-1, metavar="<role name> <key> [endkey]")
@click.pass_context
def role_revoke_permission(ctx: click.Context, prefix: bool, from_key: bool, words: tuple[str, ...]) -> None:
    """Take a permission back: the very range that was granted.

    \b
    Examples:
      etcdpyctl role revoke-permission reader /config/ --prefix
      etcdpyctl role revoke-permission owner a z
    """
    from etcdpy.proto import rpc_pb2

    if len(words) < 2:
        text = "role revoke-permission command requires role name and key [endkey] as its argument"
        raise Failure(Exit.BAD_ARGUMENTS, text)
    from etcdpy.ctl.auth_answers import shown_range

    key, end = _permitted_range(words[1:], prefix=prefix, from_key=from_key)
    what = "range " + os.fsdecode(shown_range(os.fsencode(words[1]), end)) if end else f"key {words[1]}"
    request = rpc_pb2.AuthRoleRevokePermissionRequest(role=words[0], key=key, range_end=end)
    tell(ctx, "ROLE_REVOKE_PERMISSION", request, f"Permission of {what} is revoked from role {words[0]}")
