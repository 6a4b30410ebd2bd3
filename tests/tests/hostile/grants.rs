//! Acts against grants: entries, copies, mappings.

mod copies;
mod entries;
mod mappings;
mod passed_on;

use xenvelope_grant::DomId;
use xenvelope_grant::GrantError;
use xenvelope_grant::seam::{Access, Buffer as _, Copier as _, CopyOp, End, Granter as _, Segment};
use xenvelope_hypervisor_sim::machine::{Domain, GrantedBuffer};

/// A page of `of` full of `byte`, granted to `to`.
fn granted(of: &Domain, to: &Domain, byte: u8, access: Access) -> (GrantedBuffer, Segment) {
    let mut buffer = of.take(None, 4096).expect("memory");
    buffer.stack_bytes_mut().fill(byte);
    let out = of.grant(buffer, to.peer(), 0..4096, access).expect("a reference");
    let segment = of.segments(&out)[0];
    (out, segment)
}

/// Copies a whole page: its first byte, or why not.
fn copied(by: &Domain, from: DomId, segment: Segment) -> Result<u8, GrantError> {
    let src = End::Foreign { dom: from, gref: segment.gref, offset: segment.offset };
    let mut ops = [CopyOp::new(src, End::Local { buffer: 0, offset: 0 }, segment.len)];
    let mut buffers = [by.take(None, 4096).expect("memory")];
    by.copy(&mut ops, &mut buffers).expect("the call");
    ops[0].status.check().map(|()| buffers[0].stack_bytes()[0])
}
