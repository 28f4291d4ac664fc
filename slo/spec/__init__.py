"""The SLO spec: a YAML file read into what it promises, or refused by file and line."""
