-- Envelopes in Wireshark and tshark (3.6 or later).
--
-- An envelope is a small Ethernet frame of EtherType 0x88b5 that carries grant references in place
-- of the frames themselves. Its bytes are described in switch/src/envelope.rs, and this file
-- follows them; what a receiver refuses is marked here as malformed, and nothing else is.
--
-- To use it once, with a capture of the simulator (`xenvelope-sim --pcap FILE`) or of a real VF:
--
--     tshark -X lua_script:docs/wireshark/xenvelope.lua -r FILE -Y xenvelope
--
-- To have it always, copy it into Wireshark's folder of personal Lua plugins: Help, About
-- Wireshark, Folders says where that is (mostly ~/.local/lib/wireshark/plugins). Analyze, Reload
-- Lua Plugins loads it. Wireshark runs no plugins of that folder for root on some systems; `-X`
-- works there too.
--
-- Filters:
--
--     xenvelope.kind == 1                     envelopes that carry frames (2 done, 3 reset)
--     xenvelope.segment.gref == 1234          who granted that page to whom, and when
--     xenvelope.done                          those that say what is done, riding along or alone
--     xenvelope.malformed                     those that a receiver refuses, with the reason
--     frame.interface_name == "a/channel"     those on guest a's channels
--
-- Frames that travel inline are handed on to the dissectors of their EtherType, so that filters
-- such as `xenvelope && tcp.port == 80` find them. Granted frames are not in the envelope: look at
-- the sender's or the receiver's own interface.

local ETHER_TYPE = 0x88b5
local VERSION = 1
local MAX_ENVELOPE = 1024
local PAGE_SIZE = 4096
local MAX_SEGMENTS = 17
local TAG_LENGTH = 16

local HEAD, DONE, RECORD, OFFLOAD, SEGMENT = 24, 24, 8, 8, 8
local DELIVER, DONE_ALONE, RESET = 1, 2, 3
-- Flags of an envelope.
local TAGGED, HAS_DONE, WANT_DONE, KEYED, PASSED_ON = 1, 2, 4, 32, 64
-- Flags of a record.
local HAS_OFFLOAD, NEEDS_CHECKSUM, CHECKSUM_VALID, HEADERS_INLINE = 1, 2, 4, 8

local kinds = { [DELIVER] = "deliver", [DONE_ALONE] = "done", [RESET] = "reset" }
local types = {
    [0x0800] = "IPv4", [0x0806] = "ARP", [0x86dd] = "IPv6",
    [0x8100] = "802.1Q", [0x88a8] = "802.1ad", [ETHER_TYPE] = "envelope",
}
local gso_types = { [0] = "none", [1] = "TCP over IPv4", [4] = "TCP over IPv6" }

local xenvelope = Proto("xenvelope", "Xen envelope")

local number = {
    version = ProtoField.uint8("xenvelope.version", "Version"),
    kind = ProtoField.uint8("xenvelope.kind", "Kind", base.DEC, kinds),
    length = ProtoField.uint16("xenvelope.length", "Length"),
    frames = ProtoField.uint8("xenvelope.frames", "Frames"),
    flags = ProtoField.uint8("xenvelope.flags", "Flags", base.HEX),
    tagged = ProtoField.bool("xenvelope.flags.tagged", "Granted data begins with a tag", 8, nil, TAGGED),
    has_done = ProtoField.bool("xenvelope.flags.has_done", "A done rides along", 8, nil, HAS_DONE),
    want_done = ProtoField.bool("xenvelope.flags.want_done", "The sender waits for buffers", 8, nil, WANT_DONE),
    keyed = ProtoField.bool("xenvelope.flags.keyed", "The references bear a key, the nonce", 8, nil, KEYED),
    passed_on = ProtoField.bool("xenvelope.flags.passed_on", "The driver domain passes on what was granted to it", 8, nil, PASSED_ON),
    reserved = ProtoField.uint16("xenvelope.reserved", "Reserved", base.HEX),
    epoch = ProtoField.uint32("xenvelope.epoch", "Epoch of the sender", base.HEX),
    sequence = ProtoField.uint32("xenvelope.sequence", "Sequence"),
    nonce = ProtoField.uint64("xenvelope.nonce", "Nonce", base.HEX),

    done = ProtoField.none("xenvelope.done", "Done"),
    done_epoch = ProtoField.uint32("xenvelope.done.epoch", "Epoch of the other side", base.HEX),
    done_cumulative = ProtoField.uint32("xenvelope.done.cumulative", "Finished: all before"),
    done_selective = ProtoField.uint64("xenvelope.done.selective", "Finished beyond that", base.HEX),
    done_nonce = ProtoField.uint64("xenvelope.done.nonce", "Nonce of the newest", base.HEX),
    done_newest = ProtoField.uint32("xenvelope.done.newest", "Newest that is finished"),

    frame = ProtoField.none("xenvelope.frame", "Frame"),
    frame_type = ProtoField.uint16("xenvelope.frame.type", "EtherType", base.HEX, types),
    frame_segments = ProtoField.uint8("xenvelope.frame.segments", "Segments"),
    frame_flags = ProtoField.uint8("xenvelope.frame.flags", "Flags", base.HEX),
    has_offload = ProtoField.bool("xenvelope.frame.flags.offload", "An offload block follows", 8, nil, HAS_OFFLOAD),
    needs_checksum = ProtoField.bool("xenvelope.frame.flags.needs_checksum", "The transport checksum is blank", 8, nil, NEEDS_CHECKSUM),
    checksum_valid = ProtoField.bool("xenvelope.frame.flags.checksum_valid", "The transport checksum is right", 8, nil, CHECKSUM_VALID),
    headers_inline = ProtoField.bool("xenvelope.frame.flags.headers_inline", "The first bytes are inline, the others granted", 8, nil, HEADERS_INLINE),
    frame_total = ProtoField.uint16("xenvelope.frame.total", "Bytes after the Ethernet header"),
    frame_inline_length = ProtoField.uint16("xenvelope.frame.inline_length", "Those of them that are inline"),
    inline = ProtoField.bytes("xenvelope.frame.inline", "Inline"),

    gso_type = ProtoField.uint8("xenvelope.offload.gso_type", "Segmentation", base.DEC, gso_types),
    offload_reserved = ProtoField.uint8("xenvelope.offload.reserved", "Reserved", base.HEX),
    gso_size = ProtoField.uint16("xenvelope.offload.gso_size", "Segment size"),
    checksum_start = ProtoField.uint16("xenvelope.offload.checksum_start", "Checksum start, after the Ethernet header"),
    checksum_offset = ProtoField.uint16("xenvelope.offload.checksum_offset", "Checksum offset"),

    segment = ProtoField.none("xenvelope.segment", "Segment"),
    gref = ProtoField.uint32("xenvelope.segment.gref", "Grant reference"),
    offset = ProtoField.uint16("xenvelope.segment.offset", "Offset in the page"),
    segment_length = ProtoField.uint16("xenvelope.segment.length", "Length"),

    padding = ProtoField.bytes("xenvelope.padding", "Padding"),
}
local fields = {}
for _, field in pairs(number) do
    fields[#fields + 1] = field
end
xenvelope.fields = fields

local malformed = ProtoExpert.new("xenvelope.malformed", "Malformed envelope",
    expert.group.MALFORMED, expert.severity.ERROR)
local cut = ProtoExpert.new("xenvelope.cut", "Not all of the envelope was captured",
    expert.group.UNDECODED, expert.severity.NOTE)
xenvelope.experts = { malformed, cut }

local ether_types = DissectorTable.get("ethertype")

local function has(value, bit)
    return math.floor(value / bit) % 2 == 1
end

local function refuse(tree, ...)
    tree:add_proto_expert_info(malformed, string.format(...))
end

-- The place of the highest bit that is set, from 1; 0 if none is.
local function highest_bit(value)
    local place = 0
    while value > 0 do
        place = place + 1
        value = math.floor(value / 2)
    end
    return place
end

local function dissect_done(range, tree)
    local done = tree:add(number.done, range)
    done:add_le(number.done_epoch, range(0, 4))
    done:add_le(number.done_cumulative, range(4, 4))
    done:add_le(number.done_selective, range(8, 8))
    done:add_le(number.done_nonce, range(16, 8))
    local cumulative = range(4, 4):le_uint()
    local low, high = range(8, 4):le_uint(), range(12, 4):le_uint()
    local bit = high > 0 and 32 + highest_bit(high) or highest_bit(low)
    local newest = cumulative + (bit == 0 and -1 or bit)
    done:add(number.done_newest, range(4, 12), newest % 0x100000000):set_generated()
    done:append_text(string.format(": all before %u", cumulative))
end

local function dissect_offload(range, tree, total, needs_checksum, header)
    tree:add(number.gso_type, range(0, 1))
    tree:add(number.offload_reserved, range(1, 1))
    tree:add_le(number.gso_size, range(2, 2))
    tree:add_le(number.checksum_start, range(4, 2))
    tree:add_le(number.checksum_offset, range(6, 2))
    local kind, size = range(0, 1):uint(), range(2, 2):le_uint()
    local start, offset = range(4, 2):le_uint(), range(6, 2):le_uint()
    if range(1, 1):uint() ~= 0 then
        refuse(tree, "a reserved field is not zero")
    end
    if not needs_checksum then
        refuse(tree, "an offload block, and no checksum to fill in")
    end
    if not gso_types[kind] or (kind == 0) ~= (size == 0) then
        refuse(tree, "segmentation of type %u into %u bytes", kind, size)
    end
    if start + offset + 2 > total or start + header > 0xffff then
        refuse(tree, "a checksum at %u + %u of %u bytes", start, offset, total)
    end
end

-- The record at the start of `range`. Returns how many bytes it has, or nil if it ends too early.
local function dissect_record(range, tree, index, pinfo, tagged, header)
    if range:len() < RECORD then
        refuse(tree, "the envelope ends inside frame %u", index)
        return nil
    end
    local ether_type, segments = range(0, 2):le_uint(), range(2, 1):uint()
    local flags = range(3, 1):uint()
    local total, inline = range(4, 2):le_uint(), range(6, 2):le_uint()
    local offload = has(flags, HAS_OFFLOAD) and OFFLOAD or 0
    local length = RECORD + offload + segments * SEGMENT + inline
    local there = math.min(length, range:len())
    local record = tree:add(number.frame, range(0, there))
    record:add_le(number.frame_type, range(0, 2))
    record:add(number.frame_segments, range(2, 1))
    local bits = record:add(number.frame_flags, range(3, 1))
    for _, bit in ipairs({ "has_offload", "needs_checksum", "checksum_valid", "headers_inline" }) do
        bits:add(number[bit], range(3, 1))
    end
    record:add_le(number.frame_total, range(4, 2))
    record:add_le(number.frame_inline_length, range(6, 2))
    record:append_text(string.format(" %u: %s, %u bytes, %s", index,
        types[ether_type] or string.format("0x%04x", ether_type), total,
        segments == 0 and "inline" or string.format("%u segments", segments)))

    if flags > 15 then
        refuse(record, "record flags 0x%02x are not known", flags)
    end
    if ether_type == ETHER_TYPE or ether_type == 0x8100 or ether_type == 0x88a8 then
        refuse(record, "a frame of EtherType 0x%04x cannot travel in an envelope", ether_type)
    end
    if segments > MAX_SEGMENTS then
        refuse(record, "a frame in %u segments", segments)
    end
    if length > range:len() then
        refuse(record, "the envelope ends inside frame %u", index)
        return nil
    end

    local needs_checksum = has(flags, NEEDS_CHECKSUM)
    if offload > 0 then
        dissect_offload(range(RECORD, OFFLOAD), record, total, needs_checksum, header)
    elseif needs_checksum then
        refuse(record, "a checksum to fill in, and no offload block that says where")
    end
    local granted = 0
    for at = 0, segments - 1 do
        local piece = range(RECORD + offload + at * SEGMENT, SEGMENT)
        local offset, size = piece(4, 2):le_uint(), piece(6, 2):le_uint()
        local segment = record:add(number.segment, piece)
        segment:add_le(number.gref, piece(0, 4))
        segment:add_le(number.offset, piece(4, 2))
        segment:add_le(number.segment_length, piece(6, 2))
        segment:append_text(string.format(": gref %u, %u bytes at %u", piece(0, 4):le_uint(), size, offset))
        if size == 0 or offset + size > PAGE_SIZE then
            refuse(segment, "a segment of %u bytes at offset %u", size, offset)
        end
        granted = granted + size
    end

    local headers = has(flags, HEADERS_INLINE)
    local right
    if segments == 0 then
        right = not headers and inline == total and total > 0
    else
        local tag = tagged and TAG_LENGTH or 0
        right = headers == (inline > 0) and inline < total and granted == total - inline + tag
    end
    if not right then
        refuse(record, "a frame of %u bytes, %u inline and %u granted", total, inline, granted)
    end
    if inline > 0 then
        local bytes = range(length - inline, inline)
        record:add(number.inline, bytes)
        -- An envelope in an envelope is not looked into.
        if right and segments == 0 and ether_type ~= ETHER_TYPE then
            ether_types:try(ether_type, bytes:tvb(), pinfo, record)
        end
    end
    return length
end

-- What an envelope of a kind may have in its head.
local function check_head(tree, kind, frames, flags, reserved, idle)
    if reserved ~= 0 then
        refuse(tree, "a reserved field is not zero")
    end
    if not kinds[kind] then
        refuse(tree, "envelope kind %u is not known", kind)
        return
    end
    local passed_on = has(flags, PASSED_ON) and PASSED_ON or 0
    local keyed = has(flags, KEYED) and KEYED or 0
    -- One mechanism or none, and of the low bits any.
    local fits = kind == DELIVER and flags - passed_on - keyed <= 7 and passed_on * keyed == 0
        or kind == DONE_ALONE and flags - passed_on == HAS_DONE
        or kind == RESET and flags == 0
    if not fits then
        refuse(tree, "envelope flags 0x%02x do not fit its kind", flags)
    end
    if (kind == DELIVER) ~= (frames > 0) then
        refuse(tree, "an envelope of its kind cannot have %u frames", frames)
    end
    if kind ~= DELIVER and not idle then
        refuse(tree, "a sequence or a nonce without frames")
    end
end

function xenvelope.dissector(tvb, pinfo, tree)
    local there, reported = tvb:len(), tvb:reported_len()
    -- 14 bytes, or 18 with a VLAN tag.
    local header = tvb:offset()
    pinfo.cols.protocol = "Xenvelope"
    local root = tree:add(xenvelope, tvb())
    if there < HEAD then
        if reported < HEAD then
            refuse(root, "the envelope ends too early")
        else
            root:add_proto_expert_info(cut)
        end
        pinfo.cols.info = "Envelope, too short"
        return
    end
    local kind, length = tvb(1, 1):uint(), tvb(2, 2):le_uint()
    local frames, flags = tvb(4, 1):uint(), tvb(5, 1):uint()
    local sequence = tvb(12, 4):le_uint()
    root:add(number.version, tvb(0, 1))
    root:add(number.kind, tvb(1, 1))
    root:add_le(number.length, tvb(2, 2))
    root:add(number.frames, tvb(4, 1))
    local bits = root:add(number.flags, tvb(5, 1))
    bits:add(number.tagged, tvb(5, 1))
    bits:add(number.has_done, tvb(5, 1))
    bits:add(number.want_done, tvb(5, 1))
    bits:add(number.keyed, tvb(5, 1))
    bits:add(number.passed_on, tvb(5, 1))
    root:add_le(number.reserved, tvb(6, 2))
    root:add_le(number.epoch, tvb(8, 4))
    root:add_le(number.sequence, tvb(12, 4))
    root:add_le(number.nonce, tvb(16, 8))

    local name = kinds[kind] or string.format("kind %u", kind)
    local info = string.format("Envelope: %s", name)
    if kind == DELIVER then
        info = string.format("%s %u, %u frame%s", info, sequence, frames, frames == 1 and "" or "s")
        if has(flags, HAS_DONE) then
            info = info .. ", with a done"
        end
    end
    root:append_text(string.format(", %s", name))
    -- Of another version nothing else can be told.
    if tvb(0, 1):uint() ~= VERSION then
        refuse(root, "envelope version %u is not known", tvb(0, 1):uint())
        pinfo.cols.info = info
        return
    end
    local idle = sequence == 0 and tvb(16, 8):le_uint64() == UInt64(0)
    check_head(root, kind, frames, flags, tvb(6, 2):le_uint(), idle)
    if header + length > MAX_ENVELOPE or length > reported or length < HEAD then
        refuse(root, "the envelope claims %u bytes", length)
        pinfo.cols.info = info
        return
    end
    if length > there then
        root:add_proto_expert_info(cut)
        pinfo.cols.info = info
        return
    end

    local at = HEAD
    local whole = true
    if has(flags, HAS_DONE) then
        whole = at + DONE <= length
        if whole then
            dissect_done(tvb(at, DONE), root)
            at = at + DONE
        else
            refuse(root, "the envelope ends inside its done")
        end
    end
    if whole and kind == DELIVER then
        for index = 1, frames do
            if at >= length then
                refuse(root, "the envelope ends before frame %u", index)
                whole = false
                break
            end
            local taken = dissect_record(tvb(at, length - at), root, index, pinfo,
                has(flags, TAGGED), header)
            if not taken then
                whole = false
                break
            end
            at = at + taken
        end
    end
    if whole and at < length then
        refuse(root, "%u bytes are left behind the last record", length - at)
    end
    if there > length then
        root:add(number.padding, tvb(length))
    end
    -- Last: the dissectors of inline frames have put their own here.
    pinfo.cols.protocol = "Xenvelope"
    pinfo.cols.info = info
end

ether_types:add(ETHER_TYPE, xenvelope)
