"""What ships, and under which number: the bundle, the registry, and MLflow beside it.

``bundle`` writes a folder whose name is the digest of its manifest, and the manifest holds the digest of every file in
it. ``registry`` gives a bundle a version number and moves aliases, each move a line of a log that cannot be edited.
``mlflow`` shows a release where the team already looks. A bundle is never changed: a new one is written beside it.
"""
