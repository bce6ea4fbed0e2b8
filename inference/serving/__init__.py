"""The online service: churn scores over HTTP."""
