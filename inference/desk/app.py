"""The retention desk, a script that Streamlit runs again for every visit and click.

The page is a query parameter of the address and not a path: below a path, Streamlit's client first looks for the server
at a wrong address, and every browser writes that error to its console.
"""

from pathlib import Path

import streamlit as st

from inference.desk.components import line, navigation
from inference.desk.pages import customer, customers, experiment, model, today
from inference.errors import ChurnRadarError

FOLDER = Path(__file__).parent
PAGES = {"Today": today, "Customers": customers, "Customer": customer, "Model": model, "Experiment": experiment}

st.set_page_config(page_title="Churn Radar: retention desk", page_icon=str(FOLDER / "desk.svg"), layout="wide")
st.html(FOLDER / "desk.css")
page = navigation(list(PAGES))
try:
    PAGES[page].show()
except ChurnRadarError as error:
    line(str(error))
