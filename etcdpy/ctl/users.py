"""`auth`, `user`: who may ask."""

from __future__ import annotations

import sys

import click

from etcdpy.commandline import Command, Exit, Failure, Group
from etcdpy.ctl.auth_apply import apply
from etcdpy.ctl.calls import ask, exactly, tell
from etcdpy.ctl.options import ask_secret, global_options
from etcdpy.ctl.session import CallFailed, Session
from etcdpy.errors import RootRoleNotFound

# --- auth ---


@click.group("auth", cls=Group, globals_=global_options, short_help="Enable or disable authentication")
@click.pass_context
def auth(ctx: click.Context) -> None:
    """Switch users and roles on and off."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


auth.add_command(apply)


@auth.command("enable", cls=Command, globals_=global_options, short_help="Enables authentication")
@click.argument("words", nargs=-1, metavar="")
@click.pass_context
def auth_enable(ctx: click.Context, words: tuple[str, ...]) -> None:
    """From now on every request needs a user. The user root must exist; its role is made where it is missing.

    \b
    Example:
      etcdpyctl user add root && etcdpyctl auth enable
    """
    from etcdpy.proto import rpc_pb2

    exactly(0, words, "auth enable command does not accept any arguments")
    session = Session(ctx)
    try:
        ask(session, "AUTH_ENABLE", rpc_pb2.AuthEnableRequest())
    except CallFailed as failed:
        if failed.text != RootRoleNotFound.message:
            raise
        ask(session, "ROLE_ADD", rpc_pb2.AuthRoleAddRequest(name="root"))
        ask(session, "USER_GRANT_ROLE", rpc_pb2.AuthUserGrantRoleRequest(user="root", role="root"))
        ask(session, "AUTH_ENABLE", rpc_pb2.AuthEnableRequest())
    click.echo("Authentication Enabled")


@auth.command("disable", cls=Command, globals_=global_options, short_help="Disables authentication")
@click.argument("words", nargs=-1, metavar="")
@click.pass_context
def auth_disable(ctx: click.Context, words: tuple[str, ...]) -> None:
    """From now on every request is served, whoever asks. Users and roles stay.

    \b
    Example:
      etcdpyctl --user root auth disable
    """
    from etcdpy.proto import rpc_pb2

    exactly(0, words, "auth disable command does not accept any arguments")
    ask(Session(ctx), "AUTH_DISABLE", rpc_pb2.AuthDisableRequest())
    click.echo("Authentication Disabled")


@auth.command("status", cls=Command, globals_=global_options, short_help="Returns authentication status")
@click.argument("words", nargs=-1, metavar="")
@click.pass_context
def auth_status(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Say whether users are switched on, and how often users and roles have changed.

    \b
    Example:
      etcdpyctl auth status
    """
    from etcdpy.ctl.answers import word
    from etcdpy.ctl.cluster_answers import Told
    from etcdpy.proto import rpc_pb2

    exactly(0, words, "auth status command does not accept any arguments")
    session = Session(ctx)
    answer = ask(session, "AUTH_STATUS", rpc_pb2.AuthStatusRequest())
    lines = f"Authentication Status: {word(truth=answer.enabled)}", f"AuthRevision: {answer.authRevision}"
    session.show(Told(answer, *lines, has_fields=False))


# --- user ---


@click.group("user", cls=Group, globals_=global_options, short_help="User related commands")
@click.pass_context
def user(ctx: click.Context) -> None:
    """Manage users and what roles they have."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _new_password(name: str, *, interactive: bool) -> str:
    """Asked for twice; or, where there is nobody to ask, the first word of standard input."""
    if not interactive:
        words = sys.stdin.readline().split()
        return words[0] if words else ""
    password = ask_secret(f"Password of {name}: ")
    if not password:
        raise Failure(Exit.BAD_ARGUMENTS, "empty password")
    if ask_secret(f"Type password of {name} again for confirmation: ") != password:
        raise Failure(Exit.BAD_ARGUMENTS, "given passwords are different")
    return password


@user.command("add", cls=Command, globals_=global_options, short_help="Adds a new user")
@click.option(
    "--interactive",
    is_flag=True,
    default=True,
    help="=false: take the password from standard input, without a prompt (default true)",
)
@click.option("--new-user-password", default="", help="the password")
@click.option("--no-password", is_flag=True, help="a user without password, who comes with a certificate's CN")
@click.argument("words", nargs=-1, metavar="<user name or user:password>")
@click.pass_context
def user_add(
    ctx: click.Context, interactive: bool, new_user_password: str, no_password: bool, words: tuple[str, ...]
) -> None:
    """Add a user. Without a password on the command line it is asked for.

    \b
    Examples:
      etcdpyctl user add alice
      etcdpyctl user add alice --interactive=false < password-file
      etcdpyctl user add from-certificate --no-password
    """
    from etcdpy.proto import auth_pb2, rpc_pb2

    (name,) = exactly(1, words, "user add command requires user name as its argument")
    password = new_user_password
    if no_password:
        password = ""
    elif not password:
        before, colon, behind = name.partition(":")
        if colon and not before:
            raise Failure(Exit.BAD_ARGUMENTS, "empty user name is not allowed")
        name, password = (before, behind) if colon else (name, _new_password(name, interactive=interactive))
    options = auth_pb2.UserAddOptions(no_password=no_password)
    request = rpc_pb2.AuthUserAddRequest(name=name, password=password, options=options)
    tell(ctx, "USER_ADD", request, f"User {name} created")


@user.command("delete", cls=Command, globals_=global_options, short_help="Deletes a user")
@click.argument("words", nargs=-1, metavar="<user name>")
@click.pass_context
def user_delete(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Delete a user.

    \b
    Example:
      etcdpyctl user delete alice
    """
    from etcdpy.proto import rpc_pb2

    (name,) = exactly(1, words, "user delete command requires user name as its argument")
    tell(ctx, "USER_DELETE", rpc_pb2.AuthUserDeleteRequest(name=name), f"User {name} deleted")


@user.command("get", cls=Command, globals_=global_options, short_help="Gets detailed information of a user")
@click.option("--detail", is_flag=True, help="show the permissions of the user's roles")
@click.argument("words", nargs=-1, metavar="<user name>")
@click.pass_context
def user_get(ctx: click.Context, detail: bool, words: tuple[str, ...]) -> None:
    """Show the roles of a user.

    \b
    Examples:
      etcdpyctl user get alice
      etcdpyctl user get alice --detail
    """
    from etcdpy.ctl.auth_answers import role_answer
    from etcdpy.ctl.cluster_answers import Told
    from etcdpy.proto import rpc_pb2

    (name,) = exactly(1, words, "user get command requires user name as its argument")
    session = Session(ctx)
    answer = ask(session, "USER_GET", rpc_pb2.AuthUserGetRequest(name=name))
    if not detail:
        roles = "".join(f" {role}" for role in answer.roles)
        session.show(Told(answer, f"User: {name}", f"Roles:{roles}", has_fields=False))
        return
    click.echo(f"User: {name}")
    for role in answer.roles:
        click.echo()
        session.show(role_answer(session, role))


@user.command("list", cls=Command, globals_=global_options, short_help="Lists all users")
@click.argument("words", nargs=-1, metavar="")
@click.pass_context
def user_list(ctx: click.Context, words: tuple[str, ...]) -> None:
    """List the users.

    \b
    Example:
      etcdpyctl user list
    """
    from etcdpy.ctl.cluster_answers import Told
    from etcdpy.proto import rpc_pb2

    exactly(0, words, "user list command requires no arguments")
    session = Session(ctx)
    answer = ask(session, "USER_LIST", rpc_pb2.AuthUserListRequest())
    session.show(Told(answer, *answer.users, has_fields=False))


@user.command("passwd", cls=Command, globals_=global_options, short_help="Changes password of user")
@click.option(
    "--interactive",
    is_flag=True,
    default=True,
    help="=false: take the password from standard input, without a prompt (default true)",
)
@click.argument("words", nargs=-1, metavar="<user name>")
@click.pass_context
def user_passwd(ctx: click.Context, interactive: bool, words: tuple[str, ...]) -> None:
    """Change the password of a user.

    \b
    Examples:
      etcdpyctl user passwd alice
      etcdpyctl user passwd alice --interactive=false < password-file
    """
    from etcdpy.proto import rpc_pb2

    (name,) = exactly(1, words, "user passwd command requires user name as its argument")
    password = _new_password(name, interactive=interactive)
    request = rpc_pb2.AuthUserChangePasswordRequest(name=name, password=password)
    tell(ctx, "USER_CHANGE_PASSWORD", request, "Password updated")


@user.command("grant-role", cls=Command, globals_=global_options, short_help="Grants a role to a user")
@click.argument("words", nargs=-1, metavar="<user name> <role name>")
@click.pass_context
def user_grant_role(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Give a user a role.

    \b
    Example:
      etcdpyctl user grant-role alice reader
    """
    from etcdpy.proto import rpc_pb2

    name, role = exactly(2, words, "user grant command requires user name and role name as its argument")
    request = rpc_pb2.AuthUserGrantRoleRequest(user=name, role=role)
    tell(ctx, "USER_GRANT_ROLE", request, f"Role {role} is granted to user {name}")


@user.command("revoke-role", cls=Command, globals_=global_options, short_help="Revokes a role from a user")
@click.argument("words", nargs=-1, metavar="<user name> <role name>")
@click.pass_context
def user_revoke_role(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Take a role away from a user.

    \b
    Example:
      etcdpyctl user revoke-role alice reader
    """
    from etcdpy.proto import rpc_pb2

    name, role = exactly(2, words, "user revoke-role requires user name and role name as its argument")
    request = rpc_pb2.AuthUserRevokeRoleRequest(name=name, role=role)
    tell(ctx, "USER_REVOKE_ROLE", request, f"Role {role} is revoked from user {name}")
