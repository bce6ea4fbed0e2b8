"""One file per page of the desk."""
