"""The platform: Ray Data relabeling, Ray Tune search, MLflow tracking, reports."""
