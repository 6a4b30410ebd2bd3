//! What is looked at when a domain grants, and when it copies.

use xenvelope_grant::seam::{Access, CopyOp, End, Granter as _, Host as _, Segment};
use xenvelope_grant::{DomId, Peer, Status};

use super::faults::Fault;
use super::host::SimHost;
use super::oracles::Oracle;
use super::trace::Note;
use crate::lab::steal;

impl SimHost {
    /// What was granted for a frame is for somebody who may have it, and he finds nothing else.
    pub(super) fn look_at_grant(&self, to: Peer, access: Access, segments: &[Segment]) {
        let shared = &*self.shared;
        let ours = self.domid();
        shared.note(Note::Granted(ours.0, to.domid.0, segments.first().map_or(0, |s| s.gref.0)));
        shared.grants_made(ours, segments, to.domid);
        if to.domid == DomId::DOM0 {
            return;
        }
        let life = shared.life(to.domid);
        let right = shared.named(to, life.map_or(0, |life| life.birth));
        shared.oracles.check(Oracle::Granted, right && access == Access::Read, || {
            format!("{ours:?} grants to {to:?}, {access:?}, while that domain is {life:?}")
        });
        if shared.samples()
            && let (Some(thief), Some(life)) = (shared.machine.domain(to.domid), life)
        {
            for segment in segments {
                let Ok(probe) = thief.take(None, 4096) else { break };
                drop(probe);
                // All of the page; where the grant is of a part of it, that.
                let page = steal(&thief, ours, segment.gref, 0, 4096)
                    .or_else(|| steal(&thief, ours, segment.gref, segment.offset, segment.len));
                let found =
                    page.as_deref().and_then(|page| super::traffic::foreign_mark(page, life.guest));
                shared.oracles.check(Oracle::Residue, found.is_none(), || {
                    format!(
                        "guest {} reads in a page of {ours:?} what is for another: {found:?}",
                        life.guest
                    )
                });
            }
        }
        if shared.faults.rate(Fault::CrashInside) > 0 && shared.hit(Fault::CrashInside, 0) {
            shared.machine.destroy(to.domid);
        }
    }

    pub(super) fn look_at_copies(&self, ops: &[CopyOp]) {
        let ours = self.domid();
        if ours == DomId::DOM0 {
            return;
        }
        for op in ops {
            if let (End::Foreign { dom, gref, .. }, Status::OKAY) = (op.src, op.status)
                && let Some((to, birth)) = self.shared.grant(dom, gref)
            {
                let life = self.shared.life(ours);
                let right = to == ours && life.is_some_and(|life| life.birth == birth);
                self.shared.oracles.check(Oracle::CopyRight, right, || {
                    format!(
                        "{ours:?} ({life:?}) copies what {dom:?} granted to {to:?}, birth {birth}"
                    )
                });
            }
        }
    }
}
