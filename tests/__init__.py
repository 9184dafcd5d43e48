"""The project's tests. A package, since a dependency installs another one of the same name."""
