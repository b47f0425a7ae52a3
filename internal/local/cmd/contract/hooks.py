"""Makes the valid requests of a drive meaningful: see main.go beside it.

The document says of a text that it is text; that an account is configured, a time zone exists and an e-mail address is
one, no schema can say. In requests that are meant to be valid, such texts are replaced by real ones, so that they get
past the checks. Requests that are meant to be wrong are left as they are made.
"""

import re
import zlib

import schemathesis
from schemathesis import GenerationMode

ETAG = re.compile(r'"[1-9][0-9]{0,18}"')
LINK = "https://www.example.com/"
ZONES = ["UTC", "Europe/Zurich", "America/New_York"]
LOCALES = ["en", "de-CH", "fr"]


@schemathesis.hook
def before_call(context, case, **kwargs):
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    headers = case.headers
    if headers and "If-Match" in headers and not ETAG.fullmatch(str(headers["If-Match"])):
        del headers["If-Match"]  # its generator unwraps the quotes that the pattern asks for
    if not isinstance(case.body, dict):
        return
    draw = zlib.crc32(repr(sorted(case.body.items(), key=str)).encode("utf-8", "surrogatepass"))
    if case.path == "/v1/profiles/{profileId}":
        profile(case.body, draw)
    elif case.path == "/v1/holders/{holderId}":
        holder(case.body, draw)
    elif case.path == "/v1/holders/{holderId}/credentials":
        if case.body.get("profileId") and draw % 4:
            case.body["profileId"] = "hq"
        if isinstance(case.body.get("holder"), dict):
            holder(case.body["holder"], draw)


def profile(body, draw):
    body["account"] = "acme-origo"
    plain(body)
    choose(body, draw)
    for part in ("app", "sender"):
        if isinstance(body.get(part), dict):
            plain(body[part])
            for name in ("appleUrl", "googleUrl", "logoUrl"):
                if body[part].get(name):
                    body[part][name] = LINK
            if body[part].get("replyTo"):
                body[part]["replyTo"] = f"reply-{draw}@example.com"
    if not body["name"].strip():
        body["name"] = "Visitors"


def holder(body, draw):
    if draw % 4:  # three in four are complete, and can be assigned a credential
        body.update(firstName=body.get("firstName") or "Ada", lastName=body.get("lastName") or "Lovelace",
                    email=f"ada-{draw}@example.com")
    if body.get("email"):
        body["email"] = f"ada-{draw}@example.com"
    if body.get("validUntil"):
        body["validUntil"] = "2040-01-31T17:00:00Z"
    plain(body)
    for name in ("firstName", "lastName"):
        if name in body and body[name] is not None and not body[name].strip():
            body[name] = "Ada"
    choose(body, draw)


def choose(body, draw):
    if body.get("timeZone"):
        body["timeZone"] = ZONES[draw % len(ZONES)]
    if body.get("locale"):
        body["locale"] = LOCALES[draw % len(LOCALES)]


def plain(body):
    """Leaves out of every text what no line may hold."""
    for name, value in body.items():
        if isinstance(value, str):
            body[name] = "".join(c for c in value if c.isprintable() and c != "\ufffd")
