"""The configuration: one YAML file, checked, with secrets by reference."""
