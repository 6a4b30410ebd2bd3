//! dom0's way to the hypervisor: `/dev/xen/privcmd`. All `unsafe` of this crate is here.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use anyhow::{Context, Result, bail};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// `__HYPERVISOR_grant_table_op` (public/xen.h), `GNTTABOP_query_size`, `GNTTABOP_get_version`
/// (public/grant_table.h).
const GRANT_TABLE_OP: u64 = 20;
const QUERY_SIZE: u64 = 6;
const GET_VERSION: u64 = 10;
/// `XENMEM_resource_grant_table`, and its id for the frames of entries (public/memory.h).
const RESOURCE_GRANT_TABLE: u32 = 1;
const SHARED_FRAMES: u32 = 0;
const PAGE: usize = 4096;

/// `struct privcmd_hypercall` (linux/include/uapi/xen/privcmd.h).
#[repr(C)]
struct Hypercall {
    op: u64,
    arguments: [u64; 5],
}
const _: () = assert!(size_of::<Hypercall>() == 48);

/// `struct privcmd_mmap_resource`.
#[repr(C)]
struct MapResource {
    domain: u16,
    kind: u32,
    id: u32,
    first: u32,
    count: u64,
    address: u64,
}
const _: () = assert!(size_of::<MapResource>() == 32);

// `_IOC(_IOC_NONE, 'P', nr, size)`
nix::ioctl_readwrite_bad!(hypercall, nix::request_code_none!(b'P', 0) | (48 << 16), Hypercall);
nix::ioctl_readwrite_bad!(map_resource, nix::request_code_none!(b'P', 7) | (32 << 16), MapResource);

/// The open device.
pub struct Privcmd(File);

impl Privcmd {
    pub fn open() -> Result<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/xen/privcmd");
        Ok(Self(device.context("/dev/xen/privcmd: only dom0 may do this")?))
    }

    /// One grant-table operation on one small argument, which is read back.
    fn grant_table_op(&self, op: u64, argument: &mut [u8]) -> Result<()> {
        // The hypervisor writes by virtual address and does not fault pages in: a locked page.
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_LOCKED | MapFlags::MAP_POPULATE;
        let size = NonZeroUsize::new(PAGE).context("a page")?;
        // SAFETY: a new anonymous mapping, at an address of the kernel's choice.
        let page = unsafe {
            mmap_anonymous(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags)?
        };
        let bytes = page.as_ptr().cast::<u8>();
        let mut call = Hypercall { op: GRANT_TABLE_OP, arguments: [op, bytes as u64, 1, 0, 0] };
        // SAFETY: `argument` is shorter than the page, which is ours until `munmap`. The operation
        // reads and writes its argument's structure only, which lies in the page.
        let result = unsafe {
            bytes.copy_from_nonoverlapping(argument.as_ptr(), argument.len().min(PAGE));
            let result = hypercall(self.0.as_raw_fd(), &raw mut call);
            bytes.copy_to_nonoverlapping(argument.as_mut_ptr(), argument.len().min(PAGE));
            munmap(page, PAGE)?;
            result
        };
        match result {
            Ok(0) => Ok(()),
            Ok(other) => bail!("grant table operation {op}: {other}"),
            Err(error) => bail!("grant table operation {op}: {error}"),
        }
    }

    /// How many frames a domain's grant table has now.
    pub fn grant_frames(&self, domain: u16) -> Result<u32> {
        // struct gnttab_query_size: domid u16, nr_frames u32 @4, max_nr_frames u32 @8, status s16 @12
        let mut argument = [0; 16];
        argument[..2].copy_from_slice(&domain.to_le_bytes());
        self.grant_table_op(QUERY_SIZE, &mut argument)?;
        let status = i16::from_le_bytes([argument[12], argument[13]]);
        if status != 0 {
            bail!("domain {domain}: query of its grant table's size: status {status}");
        }
        Ok(u32::from_le_bytes(std::array::from_fn(|i| argument[4 + i])))
    }

    /// 1 or 2.
    pub fn grant_version(&self, domain: u16) -> Result<u32> {
        // struct gnttab_get_version: dom u16, pad u16, version u32
        let mut argument = [0; 8];
        argument[..2].copy_from_slice(&domain.to_le_bytes());
        self.grant_table_op(GET_VERSION, &mut argument)?;
        Ok(u32::from_le_bytes(std::array::from_fn(|i| argument[4 + i])))
    }

    /// The 64-bit words of a domain's grant table, as they are now.
    pub fn grant_words(&self, domain: u16, frames: u32) -> Result<Vec<u64>> {
        let size = NonZeroUsize::new(frames as usize * PAGE).context("an empty grant table")?;
        // SAFETY: a new mapping of the device, at an address of the kernel's choice.
        let area = unsafe {
            mmap(
                None,
                size,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                &self.0,
                0,
            )?
        };
        let mut request = MapResource {
            domain,
            kind: RESOURCE_GRANT_TABLE,
            id: SHARED_FRAMES,
            first: 0,
            count: u64::from(frames),
            address: area.as_ptr() as u64,
        };
        // SAFETY: `request` lives through the call; it fills the area that was mapped above.
        let mapped = unsafe { map_resource(self.0.as_raw_fd(), &raw mut request) };
        let words = mapped.map(|_| read_words(area.cast(), size.get() / 8));
        // SAFETY: the area of above, to which nothing refers any more.
        unsafe { munmap(area, size.get())? };
        words.with_context(|| format!("map the grant table of domain {domain}"))
    }
}

/// A guest may write while this reads: each word is read once, by itself.
fn read_words(area: NonNull<u64>, count: usize) -> Vec<u64> {
    // SAFETY: `area` is page-aligned and maps `count` words.
    (0..count).map(|index| unsafe { area.as_ptr().add(index).read_volatile() }).collect()
}
