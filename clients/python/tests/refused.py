"""What the types refuse: `mypy --strict` reports each `type: ignore` that is not needed. Nothing here runs."""

from stockade import AsyncSandbox, RunOptions, Sandbox, SandboxOptions, Session


def allowed(options: SandboxOptions, run: RunOptions) -> None:
    with Sandbox(**options) as sandbox:
        sandbox.run("1", on_console=print, check=False, **run)


async def refused(sandbox: Sandbox, session: Session, other: AsyncSandbox) -> None:
    Sandbox(memroy="64mb")  # type: ignore[call-arg]
    Sandbox("container")  # type: ignore[arg-type, call-arg]
    Session(pool=1)  # type: ignore[call-arg]
    sandbox.run(1)  # type: ignore[arg-type]
    sandbox.run("1", timeout=b"1s")  # type: ignore[arg-type]
    sandbox.run("1", files={"a": 1})  # type: ignore[dict-item]
    sandbox.run("1", prelude="1")  # type: ignore[call-arg]
    session.run("1", env={})  # type: ignore[call-arg]
    await other.run("1", memroy="64mb")  # type: ignore[call-arg]
