"""Requests and responses of the score routes, as the OpenAPI document shows them."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from inference.warehouse.ids import as_text

#: Customers that one request may ask for.
MAX_CUSTOMERS = 1000

_Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
Key = Annotated[_Text, BeforeValidator(as_text, json_schema_input_type=_Text | int)]
CustomerId = Annotated[
    Key, Field(description="The shop's own id: a whole number, or text without control characters.", examples=["1301"])
]


class Churn(BaseModel):
    """How likely a customer is to leave, and why."""

    customer_id: CustomerId
    churn_probability: float = Field(ge=0, le=1, description="Probability of no order in the horizon, calibrated.")
    risk_band: Literal["low", "medium", "high", "critical"] = Field(description="Band of the probability.")
    risk_percentile: float = Field(
        ge=0, le=1, description="Rank among the customers of the last build, to the hundredth where the score is fresh."
    )
    horizon_days: int = Field(description="Days that the probability is about.")
    expected_spend: float = Field(description="What a retained customer spends in the horizon, in the shop's currency.")
    value_at_risk: float = Field(description="churn_probability times expected_spend.")
    reasons: list[str] = Field(description="Up to three sentences, strongest first.")
    model_version: str = Field(description="Version in the model registry.")
    as_of: datetime = Field(description="The features know what happened before this moment (UTC).")
    feature_age_seconds: float = Field(
        ge=0, description="Since the features were known: from as_of, or from the moment of a fresh score, until now."
    )
    source: Literal["stored", "fresh"] = Field(
        description="stored: by the last build; fresh: computed since, from newer events."
    )


class ChurnBatchRequest(BaseModel):
    """Customers to look up."""

    model_config = ConfigDict(extra="forbid")

    customer_ids: list[CustomerId] = Field(
        min_length=1, max_length=MAX_CUSTOMERS, description="Answers come in this order."
    )


class ChurnBatch(BaseModel):
    """Scores of those who are known."""

    scores: list[Churn] = Field(description="In the order asked for, unknown customers left out.")
    unknown: list[CustomerId] = Field(description="Customers without a score.")


class Problem(BaseModel):
    """An error, as RFC 9457 describes one."""

    title: str = Field(description="What kind of error.", examples=["Not Found"])
    status: int = Field(description="The HTTP status.", examples=[404])
    detail: str = Field(description="What was wrong and what was expected.", examples=["customer 7 has no score"])


class Health(BaseModel):
    """Whether the process lives."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Which answers the service can give: in every status those of the online store, and receipts of events."""

    status: Literal["ok", "catching up", "stored scores"] = Field(
        description="ok: scores follow events; catching up: some do not yet; stored scores: none does, detail says why."
    )
    detail: str = Field(description="What the status means.")
    customers_behind: int = Field(description="Customers whose score does not know all of their events.")
