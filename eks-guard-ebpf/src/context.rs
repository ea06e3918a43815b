//! The one place where raw contexts are read and written: one volatile access per word, so that none are merged.

use core::ptr::{addr_of, addr_of_mut};

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::programs::{SockAddrContext, SockContext};
use eks_guard_ebpf::OriginalDst;
use eks_guard_ebpf::address::{self, Form, LOOPBACK4, LOOPBACK6, Words};

use crate::judge::{Payload, Target};

/// Which hook family the context came from decides which address field is valid.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// A socket-address context.
pub(crate) struct SockAddr<'a> {
    /// The wrapped context, for maps that ask for it.
    pub(crate) ctx: &'a SockAddrContext,
    family: Family,
}

impl<'a> SockAddr<'a> {
    #[inline(always)]
    pub(crate) fn v4(ctx: &'a SockAddrContext) -> Self {
        Self {
            ctx,
            family: Family::V4,
        }
    }

    #[inline(always)]
    pub(crate) fn v6(ctx: &'a SockAddrContext) -> Self {
        Self {
            ctx,
            family: Family::V6,
        }
    }

    /// Where the socket is about to go.
    #[inline(always)]
    pub(crate) fn target(&self) -> Target {
        let raw = self.raw();
        // SAFETY: fields of the context, read one word at a time.
        let port = unsafe { addr_of!((*raw).user_port).read_volatile() };
        // SAFETY: as above.
        let protocol = unsafe { addr_of!((*raw).protocol).read_volatile() };
        let addr = match self.family {
            // SAFETY: as above.
            Family::V4 => address::mapped(unsafe { addr_of!((*raw).user_ip4).read_volatile() }),
            // SAFETY: as above.
            Family::V6 => four(|i| unsafe { addr_of!((*raw).user_ip6[i]).read_volatile() }),
        };
        // The port is a big-endian u16 in the low half of the word.
        Target {
            addr,
            // No protocol beyond a byte has this hook.
            protocol: protocol & 0xff,
            port: u32::from(u16::from_be(port as u16)),
            payload: Payload::Known,
        }
    }

    /// The cookie of the socket's network namespace.
    #[inline(always)]
    pub(crate) fn netns(&self) -> u64 {
        // SAFETY: the context of this program.
        unsafe { bpf_get_netns_cookie(self.raw().cast()) }
    }

    /// Writes the address the kernel is to use: of a connect() its target, of a getpeername() or getsockname() its answer.
    #[inline(always)]
    pub(crate) fn set(&self, addr: &Words, port: u16) {
        let raw = self.raw();
        match self.family {
            Family::V4 => {
                // SAFETY: a writable field of the context.
                unsafe { addr_of_mut!((*raw).user_ip4).write_volatile(addr[3]) };
            }
            Family::V6 => {
                for (i, word) in addr.iter().enumerate() {
                    // SAFETY: a writable field of the context.
                    unsafe { addr_of_mut!((*raw).user_ip6[i]).write_volatile(*word) };
                }
            }
        }
        // SAFETY: a writable field of the context.
        unsafe { addr_of_mut!((*raw).user_port).write_volatile(u32::from(port.to_be())) };
    }

    /// The socket itself.
    #[inline(always)]
    pub(crate) fn sock(&self) -> *mut bpf_sock {
        // SAFETY: the context always carries its socket.
        unsafe { addr_of!((*self.raw()).__bindgen_anon_1.sk).read_volatile() }
    }

    #[inline(always)]
    fn raw(&self) -> *mut bpf_sock_addr {
        self.ctx.sock_addr
    }
}

/// Kind (`SOCK_*`) and protocol of a socket that is being made.
#[inline(always)]
pub(crate) fn kind(ctx: &SockContext) -> (u32, u32) {
    let sock = ctx.sock;
    // SAFETY: fields of the context, read one word at a time.
    unsafe {
        (
            addr_of!((*sock).type_).read_volatile(),
            addr_of!((*sock).protocol).read_volatile(),
        )
    }
}

/// What getpeername() answers for a redirected socket: the kernel turns "any address" into loopback, so does this.
#[inline(always)]
pub(crate) fn peer(original: &OriginalDst) -> Words {
    match address::form(&original.addr) {
        Form::Mapped(0) => address::mapped(LOOPBACK4),
        Form::Native if original.addr == [0; 4] => LOOPBACK6,
        Form::Native | Form::Mapped(_) | Form::Nat64(_) => original.addr,
    }
}

#[inline(always)]
fn four(word: impl Fn(usize) -> u32) -> Words {
    [word(0), word(1), word(2), word(3)]
}
