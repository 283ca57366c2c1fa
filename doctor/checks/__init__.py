"""The doctor's checks: every file here is one check, an object named ``CHECK``, and is found by its being here."""
