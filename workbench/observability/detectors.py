"""Where personal data and secrets stand in a text. Pure; every search is linear in the length of the text.

Only the kinds that `suspicion` holds possible are searched.

Kinds and how sure they are:

- `SECRET`: see `credentials`.
- `EMAIL`: an address with a dotted domain.
- `IBAN`: country, length of that country, and check digits (ISO 7064 mod 97-10).
- `CARD`: a plausible issuer, a usual grouping, and the Luhn check.
- `IP`: IPv4 and IPv6 addresses.
- `SSN`: a US social security number in its hyphenated form.
- `PHONE`: written like a telephone number (`+49 …`, `(07) 5331 0577`, `555-123-2002`), or bare digits right after or before a word such
  as *phone* or *call*. Dates, prices, identifiers and UUIDs are not telephone numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import AddressValueError, IPv6Address

from workbench.observability.credentials import secrets
from workbench.observability.suspicion import AT, COLONS, DOTTED, IBAN, LONG, NUMBER, WORD, Found, suspicion


def find(text: str, *, hint: str = "", flags: int | None = None) -> list[Found]:
    """Everything to take out of a text, from left to right, without overlaps.

    Args:
        text: any text.
        hint: the name under which the text was stored, for example the key `phone_number`.
        flags: the text's `suspicion`, when it is known already.
    """
    if flags is None:
        flags = suspicion(text.encode("utf-8", "surrogatepass"))
    if not flags:
        return []
    found: list[Found] = []
    if flags & (LONG | WORD | AT):
        found += secrets(text, flags)
    if flags & AT:
        found += emails(text)
    if flags & IBAN:
        found += ibans(text)
    if flags & (NUMBER | DOTTED):
        found += numbers(text, hint)
    if flags & COLONS:
        found += ipv6(text)
    return without_overlaps(found) if len(found) > 1 else found


def without_overlaps(found: list[Found]) -> list[Found]:
    """The same stretches; where two overlap, one stretch over both with the first one's kind."""
    kept: list[Found] = []
    for item in sorted(found, key=lambda each: each.start):
        if kept and item.start < kept[-1].end:
            last = kept[-1]
            kept[-1] = last._replace(end=max(last.end, item.end))
        else:
            kept.append(item)
    return kept


# Addresses

_DOMAIN = re.compile(r"[^\W_](?:[\w\-])*+(?:\.[\w\-]++)++")
_LOCAL = frozenset("!#$%&'*+-./=?^_`{|}~")
_LONGEST_LOCAL = 64


def emails(text: str) -> list[Found]:
    """Addresses `local@domain.tld`. Read outwards from each `@`, so that a long text without one costs nothing."""
    found: list[Found] = []
    end = 0
    at = text.find("@")
    while at >= 0:
        start, low = at, max(end, at - _LONGEST_LOCAL)
        while start > low and (text[start - 1].isalnum() or text[start - 1] in _LOCAL):
            start -= 1
        while start < at and not text[start].isalnum() and text[start] != "_":
            start += 1
        domain = _DOMAIN.match(text, at + 1)
        if start < at and domain:
            end = domain.end()
            found.append(Found(start, end, "EMAIL", text[start:end].lower()))
        at = text.find("@", at + 1)
    return found


_LONGEST_NAME = 8
"""`a::b` is more likely a name in a program than an address."""
_V6 = re.compile(r"[0-9A-Fa-f:](?<![\w:.][0-9A-Fa-f:])[0-9A-Fa-f:.]{2,44}+")


def ipv6(text: str) -> list[Found]:
    """IPv6 addresses in any of their spellings; clock times and `::` between words are none."""
    found = []
    for match in _V6.finditer(text):
        candidate = match[0] if match[0].endswith("::") else match[0].rstrip(".:")
        is_name = len(candidate) < _LONGEST_NAME and not any(char.isdigit() for char in candidate)
        if candidate.count(":") < 2 or is_name:  # noqa: PLR2004
            continue
        try:
            value = IPv6Address(candidate).compressed
        except (AddressValueError, ValueError):
            continue
        found.append(Found(match.start(), match.start() + len(candidate), "IP", value))
    return found


# Bank accounts

_IBAN_AT_CHECK_DIGITS = re.compile(r"[0-9][0-9](?<=[A-Za-z]{2}[0-9]{2})(?<![A-Za-z0-9][A-Za-z]{2}[0-9]{2})")
_IBAN_REST = re.compile(r"(?:[ \-]?[A-Za-z0-9]){11,30}+")
_IBAN_COUNTRIES = """
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18
    FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27
    MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27
    SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30
"""
_IBAN_LENGTH = {entry[:2]: int(entry[2:]) for entry in _IBAN_COUNTRIES.split()}


def ibans(text: str) -> list[Found]:
    """International bank account numbers whose length and check digits are right. Source: ISO 13616, ISO 7064 mod 97-10."""
    found = []
    for match in _IBAN_AT_CHECK_DIGITS.finditer(text):
        start = match.start() - 2
        country = text[start : start + 2].upper()
        length = _IBAN_LENGTH.get(country)
        rest = _IBAN_REST.match(text, match.end()) if length else None
        if length is None or rest is None:
            continue
        end = _end_of(text, start, length)
        if end is None or (end < len(text) and text[end].isalnum()):
            continue
        value = re.sub(r"[ \-]", "", text[start:end]).upper()
        if _mod_97(value) == 1:
            found.append(Found(start, end, "IBAN", value))
    return found


def _end_of(text: str, start: int, n: int) -> int | None:
    """Where the n-th letter or digit from `start` ends, single blanks and hyphens passed over; None where another character comes first."""
    for position in range(start, min(len(text), start + 2 * n)):
        char = text[position]
        if char not in " -":
            if not (char.isascii() and char.isalnum()):
                return None
            n -= 1
            if n == 0:
                return position + 1
    return None


def _mod_97(iban: str) -> int:
    return int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97


# Numbers

_REGION = re.compile(r"[+(0-9][0-9+()./x \-]{6,}+")
_NUMBER = re.compile(
    r"""(?<!\w)(?<![0-9][.,])(?:
      (?P<date>[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}(?![0-9]) | [0-9]{1,2}(?P<sep>[-/. ])[0-9]{1,2}(?P=sep)(?:19|20)[0-9]{2}(?![0-9]))
    | (?P<ip>(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9]|\.[0-9]))
    | (?P<card>[2-6][0-9]{12,18}(?![0-9]) | [2-6][0-9]{3}([ -])[0-9]{4}(?:\5[0-9]{4}){2}(?:\5[0-9]{3})?(?![0-9])
              | 3[0-9]{3}[ -][0-9]{6}[ -][0-9]{4,5}(?![0-9]))
    | (?P<ssn>(?<!-)[0-9]{3}-[0-9]{2}-[0-9]{4}(?![-0-9]))
    | (?<![\w]-)(?P<phone>
          \+\(?[0-9]++\)?(?:[ ./-]?\(?[0-9]++\)?){0,7}+(?:[ ]?x[0-9]{1,6})?
        | (?:(?:00)?1[ .-])?(?:\([2-9][0-9]{2}\)[ .-]?|[2-9][0-9]{2}[ .-])[0-9]{3}[ .-][0-9]{4}(?![0-9])(?:[ ]?x[0-9]{1,6})?
        | \([0-9]{2,5}\)[ -]?[0-9]{3,8}(?:[ -][0-9]{2,5}){0,3}(?![0-9])
        | 0[0-9]{1,5}(?:[ ./-][0-9]{2,8}){1,4}(?![0-9])(?:[ ]?x[0-9]{1,6})?)
    | (?<![\w]-)(?P<loose>[0-9]{7,15}(?![0-9]) | [0-9]{1,4}(?:[ ./-][0-9]{2,5}){2,5}(?![0-9]))
    )(?!\w|-\w|[.,][0-9])""",
    re.VERBOSE,
)
_NO_DIGITS = str.maketrans("", "", "+()./x -")
"""What a number may hold beside digits."""
_MORE_DIGITS = re.compile(r"[0-9+(]+")
_SAYS_PHONE = re.compile(r"phone|telefon|\btel|mobil|\bcell|handy|\bfax|whatsapp|\bsms|\bcall|\bdial|\btext me|\breach|\bdesk|\bmsisdn")
_SAYS_OTHER = re.compile(
    r"order|invoice|ticket|case|track|account|\bref|\bid\b|item|sku|product|amount|total|price|version|\bzip|\bcode|serial|[$€£#]"
)
_PHONE_AFTER = re.compile(r"[ ,(]{1,3}(?:office|mobile|fax|phone|cell|home|desk|work)\b", re.IGNORECASE)
_REACH = 40
"""Characters before a number in which a word may say what it is."""


def numbers(text: str, hint: str = "") -> list[Found]:
    """Card numbers, telephone numbers, social security numbers and IPv4 addresses."""
    found: list[Found] = []
    for region in _REGION.finditer(text):
        position, end = region.start(), region.end()
        limit = min(len(text), end + 2)
        while position < end:
            match = _NUMBER.search(text, position, limit)
            if match is None or match.start() >= end:
                break
            item = _judged(text, match, hint)
            if item is not None:
                found.append(item)
                position = item.end
            elif match["date"]:
                position = match.end()
            else:
                group = _MORE_DIGITS.match(text, match.start())
                position = group.end() if group else match.end()
    return found


def _judged(text: str, match: re.Match[str], hint: str) -> Found | None:
    """What a number is, if it is anything to take out."""
    kind, seen = match.lastgroup or "", match[0]
    start, end = match.span()
    digits = seen.translate(_NO_DIGITS)
    if kind in _CHECKED:
        name, is_one = _CHECKED[kind]
        if is_one(seen, digits):
            return Found(start, end, name, seen if name == "IP" else digits)
    if kind == "phone" and _fits_a_phone(seen, digits):
        end = start + len(seen.rstrip(" ./-("))
        return Found(start, end, "PHONE", ("+" if seen[0] == "+" else "") + digits)
    if kind in ("card", "loose", "phone") and 7 <= len(digits) <= 15 and _is_called_phone(text, start, end, hint):  # noqa: PLR2004 - E.164
        return Found(start, end, "PHONE", digits)
    return None


def _fits_a_phone(seen: str, digits: str) -> bool:
    extension = seen.partition("x")[2]
    return (8 if seen[0] in "+(" else 9) <= len(digits) - len(extension) <= 15  # noqa: PLR2004 - E.164 allows 15


def names_phone(name: str) -> bool:
    """Whether a key of this name says that its value is a telephone number."""
    return _SAYS_PHONE.search(name.lower()) is not None


def _is_called_phone(text: str, start: int, end: int, hint: str) -> bool:
    """Whether the nearest telling word before the number, the key it is stored under, or the word after it means a telephone."""
    before = f"{hint} {text[max(0, start - _REACH) : start]}".lower()
    said = max((match.end() for match in _SAYS_PHONE.finditer(before)), default=-1)
    denied = max((match.end() for match in _SAYS_OTHER.finditer(before)), default=-1)
    return said > denied or (denied < 0 and _PHONE_AFTER.match(text, end) is not None)


_CARD_STARTS: Mapping[int, str | tuple[str, ...]] = {13: "4", 14: "3", 15: ("34", "37")}


def _is_ipv4(seen: str, _digits: str) -> bool:
    return all(int(part) <= 255 for part in seen.split("."))  # noqa: PLR2004 - one byte


def _is_ssn(_seen: str, digits: str) -> bool:
    """Whether area, group and serial are ones that are issued. Source: Social Security Administration, randomisation rules of 2011."""
    return digits[:3] not in ("000", "666") and digits[0] != "9" and digits[3:5] != "00" and digits[5:] != "0000"


def _is_card(_seen: str, digits: str) -> bool:
    """Whether length and first digits are those of a card scheme and the Luhn check holds. Source: ISO/IEC 7812-1."""
    if not digits.startswith(_CARD_STARTS.get(len(digits), digits[:1])) or len(set(digits)) == 1:
        return False
    total = sum(int(digit) for digit in digits[-1::-2])
    total += sum(int(digit) * 2 - (9 if digit > "4" else 0) for digit in digits[-2::-2])
    return total % 10 == 0


_CHECKED: Mapping[str, tuple[str, Callable[[str, str], bool]]] = {
    "card": ("CARD", _is_card),
    "ip": ("IP", _is_ipv4),
    "ssn": ("SSN", _is_ssn),
}
