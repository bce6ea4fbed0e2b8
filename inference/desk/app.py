"""The retention desk as Streamlit runs it, anew for every visit and click.

Pages are told apart by a parameter of the address, not by paths: below a path, Streamlit in the browser first looks for
the server in vain, which every browser writes to its console.
"""

from pathlib import Path

import streamlit as st

from inference.desk import components as parts
from inference.desk.pages import customer, customers, experiment, model, today

FOLDER = Path(__file__).parent
PAGES = {"Today": today, "Customers": customers, "Customer": customer, "Model": model, "Experiment": experiment}

st.set_page_config(page_title="Churn Radar: retention desk", page_icon=str(FOLDER / "desk.svg"), layout="wide")
st.html(FOLDER / "desk.css")
parts.draw(PAGES[parts.navigation(list(PAGES))].show)
