//! An envelope that somebody sent.

use xenvelope_grant::PAGE_SIZE;
use xenvelope_grant::seam::MAX_SEGMENTS;
use xenvelope_switch::{Body, Envelope, MAX_ENVELOPE, TAG_LEN, is_envelope};

/// Parses the bytes. What is taken for an envelope must be what the format says: whoever uses it
/// checks nothing of that again.
pub fn envelope(data: &[u8]) {
    let Ok(envelope) = Envelope::parse(data) else { return };
    assert!(is_envelope(data), "a switch would pass it on as a frame");
    assert!(data.len() >= envelope.header.len());
    let Body::Deliver(deliver) = envelope.body.clone() else {
        assert_eq!(envelope.carried(), 0);
        return;
    };
    let mut frames = 0;
    for frame in deliver.frames.clone() {
        frames += 1;
        let total = usize::from(frame.head.total);
        assert!(total > 0 && frame.inline.len() <= MAX_ENVELOPE);
        let (mut granted, mut segments) = (0, 0);
        for segment in frame.segments.clone() {
            let (offset, len) = (usize::from(segment.offset), usize::from(segment.len));
            assert!(len > 0 && offset + len <= PAGE_SIZE, "{segment:?} leaves its page");
            granted += len;
            segments += 1;
        }
        assert!(segments <= MAX_SEGMENTS);
        let tag = if segments > 0 && deliver.head.tagged { TAG_LEN } else { 0 };
        assert_eq!(frame.inline.len() + granted, total + tag, "bytes from nowhere");
        assert_eq!(frame.headers_inline, segments > 0 && !frame.inline.is_empty());
        let offload = frame.head.offload;
        if offload.needs_checksum {
            let end = usize::from(offload.checksum_start) + usize::from(offload.checksum_offset);
            assert!(end + 2 <= envelope.header.len() + total, "a checksum outside of the frame");
        }
    }
    assert!(frames > 0 && envelope.carried() == frames);
}
