"""The studies, a module each: its cases, the edits that it alone makes, its figure and what follows from it.

Each module defines `STUDY`, and `sweeps.studies.registry` has its name.
"""
