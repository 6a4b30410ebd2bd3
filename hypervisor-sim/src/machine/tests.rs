//! What domains can and cannot do to each other.

mod copies;
mod descriptors;
mod domains;
mod grants;
mod keyed;
mod ports;
mod sharing;

use std::sync::Arc;

use xenvelope_grant::seam::{Buffer, Copier, CopyOp, End, Granter, Segment};
use xenvelope_grant::{DomId, Gref, Status};

use super::{Costs, Domain, DomainOptions, FrameBuffer, GrantVersion, Machine};

/// A host with two domains, `0` and `1`.
fn two(version: GrantVersion) -> (Arc<Machine>, Domain, Domain) {
    let machine = Machine::new(Costs::ideal());
    let create = |name| {
        let options = DomainOptions { grant_version: version, ..DomainOptions::new(name, 256) };
        machine.create(&options).expect("a domain")
    };
    let (one, other) = (create("one"), create("other"));
    (machine, one, other)
}

fn filled(domain: &Domain, len: usize, byte: u8) -> FrameBuffer {
    let mut buffer = domain.take(None, len).expect("memory");
    buffer.stack_bytes_mut().fill(byte);
    buffer
}

fn foreign(dom: DomId, gref: Gref, offset: u16) -> End {
    End::Foreign { dom, gref, offset }
}

fn local(offset: u32) -> End {
    End::Local { buffer: 0, offset }
}

/// One copy into or out of one buffer.
fn copy(by: &Domain, src: End, dst: End, len: u16, buffer: &mut FrameBuffer) -> Status {
    let mut ops = [CopyOp::new(src, dst, len)];
    by.copy(&mut ops, std::slice::from_mut(buffer)).expect("the call itself");
    ops[0].status
}

/// What the reader gets of a segment.
fn fetch(by: &Domain, from: DomId, segment: Segment) -> Result<Vec<u8>, Status> {
    let mut buffer = filled(by, 4096, 0);
    let source = foreign(from, segment.gref, segment.offset);
    match copy(by, source, local(0), segment.len, &mut buffer) {
        Status::OKAY => Ok(buffer.stack_bytes()[..usize::from(segment.len)].to_vec()),
        status => Err(status),
    }
}
