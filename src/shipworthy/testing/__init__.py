"""For those who bring their own: the laws that every ``Registry``, ``Runner`` and ``Pass`` must keep.

    from shipworthy.testing import laws

    @pytest.mark.parametrize("law", laws.REGISTRY, ids=lambda law: law.__name__)
    def test_my_registry(law):
        law(MyRegistry())

A law is a small function that takes a fresh implementation and raises ``AssertionError`` with the reason.
"""
