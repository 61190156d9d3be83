"""Presets, one YAML file each."""
