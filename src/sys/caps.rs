//! Capability sets as bit masks. Names belong to the plan; the child only needs numbers.

use super::{Errno, Result, check};

/// The five sets of a process, bit N being capability N.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sets {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// The effective set of this process.
///
/// # Errors
/// That of capget(2).
pub fn effective() -> Result<u64> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 has two data structs, and the kernel fills both.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    Ok(u64::from(data[0].effective) | (u64::from(data[1].effective) << 32))
}

/// Sets the effective, permitted and inheritable sets.
///
/// # Errors
/// `EPERM` for what is not permitted.
pub fn set(sets: &Sets) -> Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: as in `effective`, and read only.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) })?;
    Ok(())
}

/// The last capability that every kernel has which we can run on: CAP_CHECKPOINT_RESTORE, of Linux 5.9.
const ALWAYS_THERE: u32 = 40;

/// Drops from the bounding set whatever is not in `keep`, up to the last capability of this kernel.
///
/// # Errors
/// `EPERM` without CAP_SETPCAP.
pub fn drop_bounding(keep: u64) -> Result<()> {
    for cap in 0..64 {
        if (keep >> cap) & 1 == 1 {
            continue;
        }
        // SAFETY: integers only.
        match check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, cap, 0, 0, 0) }) {
            Ok(_) => {}
            // Past this kernel's last capability. For one that is there, it is somebody else's word for no.
            Err(Errno::EINVAL) if cap > ALWAYS_THERE => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Clears the ambient set and raises `caps` in it.
///
/// # Errors
/// `EPERM` for what is not both permitted and inheritable.
pub fn set_ambient(caps: u64) -> Result<()> {
    let ambient = |what: libc::c_int, cap: u32| {
        // SAFETY: integers only.
        check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, what, cap as libc::c_ulong, 0, 0) })
    };
    ambient(libc::PR_CAP_AMBIENT_CLEAR_ALL, 0)?;
    for cap in 0..64 {
        if (caps >> cap) & 1 == 1 {
            ambient(libc::PR_CAP_AMBIENT_RAISE, cap)?;
        }
    }
    Ok(())
}
