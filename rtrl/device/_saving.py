"""Saving and loading in C: the same bytes as `rtrl.device.pack`, and two slots for a power cut."""

import textwrap

from rtrl.device._layout import Member
from rtrl.device._pack import HEADER, VERSION


def saving(name: str, layout: list[Member]) -> str:
    upper = name.upper()
    wide = any(m.wide for m in layout)
    first = next((m for m in layout if m.narrow), None)
    label = ", ".join(f"'{c}'" for c in name[:15])
    size = "(sizeof state + sizeof scale)" if wide else "sizeof state"
    get_wide = """
    if (at >= sizeof state) { /* half of a number of 8 bytes */
        unsigned long long both;
        memcpy(&both, (const char *)&scale + (at - sizeof state) / 8 * 8, 8);
        return (unsigned)(at % 8 == sizeof state % 8 ? both : both >> 32);
    }""" if wide else ""  # fmt: skip
    set_wide = """
    if (at >= sizeof state) {
        char *const place = (char *)&scale + (at - sizeof state) / 8 * 8;
        unsigned long long both;
        memcpy(&both, place, 8);
        if (at % 8 == sizeof state % 8) {
            both = (both & ~0xffffffffull) | number;
        } else {
            both = (both & 0xffffffffull) | (unsigned long long)number << 32;
        }
        memcpy(place, &both, 8);
        return;
    }""" if wide else ""  # fmt: skip
    get_narrow = """
    if (at >= NARROW) {
        return (unsigned)narrow_byte(at) | (unsigned)narrow_byte(at + 1) << 8
            | (unsigned)narrow_byte(at + 2) << 16 | (unsigned)narrow_byte(at + 3) << 24;
    }""" if first else ""  # fmt: skip
    set_narrow = """
    if (at >= NARROW) {
        for (size_t k = 0; k < 4; k++) {
            set_narrow_byte(at + k, (unsigned char)(number >> 8 * k & 255u));
        }
        return;
    }""" if first else ""  # fmt: skip
    return f"""
/* A saved state is a row of numbers of 4 bytes, the least significant byte first whatever the
   machine: a header of 8 numbers, the state, a checksum. */
enum {{ NUMBERS = {upper}_STATE_BYTES / 4, HEADER = {HEADER // 4} }};

static unsigned get(const unsigned char *bytes)
{{
    return (unsigned)bytes[0] | (unsigned)bytes[1] << 8 | (unsigned)bytes[2] << 16
        | (unsigned)bytes[3] << 24;
}}

static void put(unsigned char *bytes, unsigned number)
{{
    for (int i = 0; i < 4; i++) {{
        bytes[i] = (unsigned char)(number >> 8 * i & 255u);
    }}
}}

/* CRC-32, as in zip files, of a row of bytes after those that gave crc; 0 at first. */
static unsigned checksum(unsigned crc, const unsigned char *bytes, size_t size)
{{
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {{
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {{
            crc = crc >> 1 ^ (crc & 1u ? 0xedb88320u : 0u);
        }}
    }}
    return ~crc;
}}
{_narrow_bytes(layout, first)}
/* Number i of the state. */
static unsigned state_number(size_t i)
{{
    const size_t at = 4 * i;
    unsigned number;{get_wide}{get_narrow}
    memcpy(&number, (const char *)&state + at, 4);
    return number;
}}

static void set_state_number(size_t i, unsigned number)
{{
    const size_t at = 4 * i;{set_wide}{set_narrow}
    memcpy((char *)&state + at, &number, 4);
}}

/* Number i of a saved state without its checksum, as bytes. */
static void saved_number(size_t i, unsigned char *bytes)
{{
    static const unsigned char label[16] = {{{label}}};
    const unsigned header[4] = {{0, {VERSION}u, {upper}_LAYOUT, (unsigned){size}}};
    if (i == 0) {{
        memcpy(bytes, "RTRL", 4);
    }} else if (i < 4) {{
        put(bytes, header[i]);
    }} else if (i < HEADER) {{
        memcpy(bytes, label + 4 * (i - 4), 4);
    }} else {{
        put(bytes, state_number(i - HEADER));
    }}
}}

/* Whether the first 16 bytes of a saved state are those of this learner. */
static int refuse(const unsigned char *header)
{{
    if (memcmp(header, "RTRL", 4) != 0) {{
        return {upper}_NO_STATE;
    }}
    if (get(header + 4) != {VERSION}u) {{
        return {upper}_OTHER_VERSION;
    }}
    if (get(header + 8) != {upper}_LAYOUT || get(header + 12) != {size}) {{
        return {upper}_OTHER_LEARNER;
    }}
    return 0;
}}

int {name}_load(const void *bytes, size_t size)
{{
    const unsigned char *const from = bytes;
    int refused;
    if (size < {upper}_STATE_BYTES) {{
        return {upper}_NO_STATE;
    }}
    refused = refuse(from);
    if (refused) {{
        return refused;
    }}
    if (get(from + {upper}_STATE_BYTES - 4) != checksum(0, from, {upper}_STATE_BYTES - 4)) {{
        return {upper}_DAMAGED;
    }}
    for (size_t i = HEADER; i < NUMBERS - 1; i++) {{
        set_state_number(i - HEADER, get(from + 4 * i));
    }}
    return 0;
}}

size_t {name}_save(void *bytes, size_t size)
{{
    unsigned char *const to = bytes;
    if (size < {upper}_STATE_BYTES) {{
        return 0;
    }}
    for (size_t i = 0; i < NUMBERS - 1; i++) {{
        saved_number(i, to + 4 * i);
    }}
    put(to + {upper}_STATE_BYTES - 4, checksum(0, to, {upper}_STATE_BYTES - 4));
    return {upper}_STATE_BYTES;
}}

/* A slot holds a saved state without its checksum, a sequence number, the checksum of both. */

/* Whether a slot is whole, and its sequence number. */
static int whole(const struct {name}_memory *memory, size_t slot, unsigned *sequence)
{{
    const size_t base = slot * {upper}_SLOT_BYTES;
    unsigned char bytes[64];
    unsigned crc = 0;
    for (size_t at = 0; at < {upper}_SLOT_BYTES - 4;) {{
        const size_t left = {upper}_SLOT_BYTES - 4 - at;
        const size_t n = left < sizeof bytes ? left : sizeof bytes;
        if (memory->read(memory->context, base + at, bytes, n)) {{
            return 0;
        }}
        if (at == 0 && refuse(bytes)) {{
            return 0;
        }}
        crc = checksum(crc, bytes, n);
        at += n;
        *sequence = get(bytes + n - 4);
    }}
    if (memory->read(memory->context, base + {upper}_SLOT_BYTES - 4, bytes, 4)) {{
        return 0;
    }}
    return get(bytes) == crc;
}}

/* The newest whole slot; -1 if there is none. */
static int newest(const struct {name}_memory *memory, unsigned *sequence)
{{
    unsigned first = 0, second = 0;
    const int has_first = whole(memory, 0, &first), has_second = whole(memory, 1, &second);
    if (has_first && (!has_second || (first - second) < 0x80000000u)) {{
        *sequence = first;
        return 0;
    }}
    *sequence = second;
    return has_second ? 1 : -1;
}}

int {name}_keep(const struct {name}_memory *memory)
{{
    unsigned sequence;
    const int last = newest(memory, &sequence);
    const size_t base = last == 0 ? {upper}_SLOT_BYTES : 0;
    unsigned char bytes[64];
    unsigned crc = 0;
    size_t filled = 0, at = 0;
    sequence = last < 0 ? 0 : sequence + 1;
    for (size_t i = 0; i <= NUMBERS; i++) {{
        if (i < NUMBERS - 1) {{
            saved_number(i, bytes + filled);
        }} else {{
            put(bytes + filled, i == NUMBERS ? crc : sequence);
        }}
        crc = checksum(crc, bytes + filled, 4);
        filled += 4;
        if (filled == sizeof bytes || i == NUMBERS) {{
            if (memory->write(memory->context, base + at, bytes, filled)) {{
                return {upper}_NO_MEMORY;
            }}
            at += filled;
            filled = 0;
        }}
    }}
    return 0;
}}

int {name}_recall(const struct {name}_memory *memory)
{{
    unsigned sequence;
    const int slot = newest(memory, &sequence);
    if (slot < 0) {{
        return {upper}_NO_STATE;
    }}
    for (size_t i = HEADER; i < NUMBERS - 1; i++) {{
        unsigned char bytes[4];
        if (memory->read(memory->context, (size_t)slot * {upper}_SLOT_BYTES + 4 * i, bytes, 4)) {{
            return {upper}_NO_MEMORY;
        }}
        set_state_number(i - HEADER, get(bytes));
    }}
    return 0;
}}
"""


def _narrow_bytes(layout: list[Member], first: Member | None) -> str:
    """Access to the numbers of 2 bytes and of 1, whatever the order of bytes in memory."""
    if first is None:
        return ""
    halves = sum(m.itemsize * m.size for m in layout if m.itemsize == 2)
    octets = any(m.itemsize == 1 for m in layout)
    get, put = _OF_OCTETS
    if halves:
        (get_half, put_half), where = _OF_HALVES, f"at < NARROW + {halves}"
        both = halves and octets
        get = f"    if ({where}) {{\n{_in(get_half)}    }}\n{get}" if both else get_half
        put = (
            f"    if ({where}) {{\n{_in(put_half)}        return;\n    }}\n{put}"
            if both
            else put_half
        )
    return f"""
/* Numbers of 2 bytes, then those of 1, from here to the end of the state. */
enum {{ NARROW = offsetof(struct state, {first.name}) }};

/* A byte of these at an offset in the state: the least significant one of a number comes first. */
static unsigned char narrow_byte(size_t at)
{{
{get}}}

static void set_narrow_byte(size_t at, unsigned char byte)
{{
{put}}}
"""


#: Getting and setting a byte.
_OF_OCTETS = (
    "    unsigned char byte;\n    memcpy(&byte, (const char *)&state + at, 1);\n    return byte;\n",
    "    memcpy((char *)&state + at, &byte, 1);\n",
)
_OF_HALVES = (
    "    unsigned short half;\n    memcpy(&half, (const char *)&state + at / 2 * 2, 2);\n"
    "    return (unsigned char)(half >> 8 * (at % 2) & 255);\n",
    "    unsigned short half;\n    memcpy(&half, (const char *)&state + at / 2 * 2, 2);\n"
    "    half = (unsigned short)(at % 2 ? (half & 255) | byte << 8 : (half & 0xff00) | byte);\n"
    "    memcpy((char *)&state + at / 2 * 2, &half, 2);\n",
)


def _in(block: str) -> str:
    return textwrap.indent(block, "    ")
