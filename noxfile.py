#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.5.1"]
# ///
"""The steps of `.ci/run`, each in an environment of its own: `nox`, or `nox -s lint`."""

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"


def run(session: nox.Session, step: str) -> None:
    """Install the package with what its tests and pages need, and run one step."""
    session.install("-c", "constraints.txt", "-e", ".[test,docs]")
    session.run(".ci/run", step, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    run(session, "lint")


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    run(session, "types")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation."""
    run(session, "docs")


@nox.session
def demo(session: nox.Session) -> None:
    """Run the commands of the README."""
    run(session, "demo")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests."""
    run(session, "tests")


if __name__ == "__main__":
    nox.main()
