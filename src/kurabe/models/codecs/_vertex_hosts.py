"""Hosts of Vertex AI: one for each region, and others for the places that span regions."""


def vertex_address(address: str) -> str:
    """The address of a location: `global`, `us` and `eu` have hosts that are not named by the rule for regions.

    >>> vertex_address("https://global-aiplatform.googleapis.com/v1")
    'https://aiplatform.googleapis.com/v1'
    """
    address = address.replace("//global-aiplatform.", "//aiplatform.", 1)
    for place in ("us", "eu"):
        address = address.replace(f"//{place}-aiplatform.googleapis.com", f"//aiplatform.{place}.rep.googleapis.com", 1)
    return address
