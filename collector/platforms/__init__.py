"""One module per platform; each knows one vendor's API and nothing else of the project's business."""
