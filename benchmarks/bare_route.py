"""The minimal cost of a FastAPI route, which benchmarks/serving.py compares with the service."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/v1/customers/{customer_id}/churn")
async def churn(customer_id: str) -> dict:
    """Return a constant."""
    return {"customer_id": "c1", "churn_probability": 0.5, "reasons": ["last order 3 days ago"], "model_version": "1"}
