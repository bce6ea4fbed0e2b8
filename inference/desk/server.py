"""Streamlit with the settings of the desk: it listens on loopback, calls nobody, and shows no traceback."""

from pathlib import Path

APP = Path(__file__).with_name("app.py")


def options(host: str, port: int) -> dict[str, str | int]:
    """Return Streamlit's settings by name.

    Parameters
    ----------
    host : str
        Address to listen on.
    port : int
        Its port.
    """
    return {
        "server.address": host,
        "server.port": port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "theme.base": "light",
        "theme.primaryColor": "#b3402a",
        "theme.textColor": "#1c2128",
    }


def run(host: str, port: int) -> None:
    """Serve the desk until it is stopped.

    Parameters
    ----------
    host : str
        Address to listen on.
    port : int
        Its port.
    """
    from streamlit.web.cli import main  # takes seconds

    given = [f"--{name}={value}" for name, value in options(host, port).items()]
    main(["run", str(APP), *given], standalone_mode=False)
