"""The laws of every protocol, one file a part, in the order they are examined: what may hurt a server comes last."""

from __future__ import annotations

from shipworthy.testing.conformance.case import Group
from shipworthy.testing.conformance.laws import (
    binary,
    errors,
    extensions,
    health_grpc,
    http,
    load,
    oip_grpc,
    rest,
    tfs_grpc,
    tfs_rest,
)

GROUPS: tuple[Group, ...] = (
    rest.HEALTH,
    rest.REST,
    rest.VERSIONS,
    errors.GROUP,
    http.GROUP,
    binary.GROUP,
    *extensions.GROUPS,
    oip_grpc.GROUP,
    *health_grpc.GROUPS,
    tfs_rest.GROUP,
    tfs_grpc.GROUP,
    load.GROUP,
)
