//! Makes the kernel's random generator forget what it shares with other machines that were woken from
//! the same memory. Nothing else; it is a crate of its own because the two calls need unsafe code, which
//! is forbidden everywhere else.

use std::{ffi::c_int, fs::File, io};

use rustix::ioctl::{NoArg, Opcode, Setter, ioctl, opcode};

/// How many bytes [`reseed`] takes at once.
pub const N_BYTES: usize = 256;
/// As many as the generator's state has bits; fewer leave it guessable.
const MIN_BYTES: usize = 32;

/// `RNDADDENTROPY` of `linux/random.h`, whose argument is declared as two integers.
const ADD_ENTROPY: Opcode = opcode::write::<[c_int; 2]>(b'R', 0x03);
/// `RNDRESEEDCRNG` of the same.
const RESEED: Opcode = opcode::none(b'R', 0x07);

/// `struct rand_pool_info` with its bytes: the header counts bits and bytes of what follows.
#[repr(C)]
struct PoolInfo {
    n_bits: c_int,
    n_bytes: c_int,
    bytes: [u8; N_BYTES],
}

/// Adds 32 to 256 bytes that nobody else has to the kernel's pool, and has the generator begin anew from
/// it before this returns.
///
/// # Errors
/// Too few or too many bytes; `PermissionDenied` for anybody but root; any other of the kernel's.
pub fn reseed(entropy: &[u8]) -> io::Result<()> {
    if !(MIN_BYTES..=N_BYTES).contains(&entropy.len()) {
        let text = format!("entropy has {MIN_BYTES} to {N_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let mut info = PoolInfo { n_bits: 0, n_bytes: 0, bytes: [0; N_BYTES] };
    for (place, byte) in info.bytes.iter_mut().zip(entropy) {
        *place = *byte;
    }
    let n_bytes = c_int::try_from(entropy.len()).map_err(io::Error::other)?;
    (info.n_bits, info.n_bytes) = (n_bytes * 8, n_bytes);
    let random = File::options().write(true).open("/dev/urandom")?;
    add(&random, info)?;
    begin_anew(&random)
}

#[expect(unsafe_code, reason = "no library wraps RNDADDENTROPY")]
fn add(random: &File, info: PoolInfo) -> io::Result<()> {
    // SAFETY: the call reads a `rand_pool_info` and as many bytes behind it as that says, which are no more
    // than `PoolInfo` has; it writes nothing, and lasts no longer than the value.
    let call = unsafe { Setter::<ADD_ENTROPY, PoolInfo>::new(info) };
    // SAFETY: the descriptor is that of a random device, whose calls these are.
    unsafe { ioctl(random, call) }?;
    Ok(())
}

#[expect(unsafe_code, reason = "no library wraps RNDRESEEDCRNG")]
fn begin_anew(random: &File) -> io::Result<()> {
    // SAFETY: the call takes no argument.
    let call = unsafe { NoArg::<RESEED>::new() };
    // SAFETY: the descriptor is that of a random device, whose calls these are.
    unsafe { ioctl(random, call) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_are_those_of_the_kernel() {
        // As `linux/random.h` and `asm-generic/ioctl.h` work them out.
        assert_eq!((ADD_ENTROPY, RESEED), (0x4008_5203, 0x5207));
        assert_eq!(size_of::<PoolInfo>(), 2 * size_of::<c_int>() + N_BYTES);
    }

    #[test]
    fn too_little_and_too_much_is_refused() {
        for n in [0, 31, 257] {
            let error = reseed(&vec![1; n]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{n}");
        }
    }

    #[test]
    fn it_is_done_or_refused_for_a_missing_right() {
        match reseed(&[7; N_BYTES]) {
            Ok(()) => assert!(rustix::process::geteuid().is_root()),
            // A container's root may lack the right, too.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
}
