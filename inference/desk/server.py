"""Runs Streamlit with the settings of the desk: no telemetry, and no traceback on a page."""

from pathlib import Path

APP = Path(__file__).with_name("app.py")


def options(host: str, port: int) -> dict[str, str | int]:
    """Return Streamlit's settings by name."""
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
    """Serve the desk until it is stopped."""
    from streamlit.web.cli import main  # takes seconds

    arguments = [f"--{name}={value}" for name, value in options(host, port).items()]
    main(["run", str(APP), *arguments], standalone_mode=False)
