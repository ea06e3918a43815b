//! Two connections over one socket, and the packets of ttrpc on them.
//!
//! Each frame on the socket is a connection's number and a length, four bytes each, most significant first
//! (`pkg/net/multiplex/mux.go` of github.com/containerd/nri). A connection is a stream of bytes: frames may end anywhere in a
//! packet. A packet is a length, a stream's number, a kind and flags, and a payload (`channel.go` of github.com/containerd/ttrpc).

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest payload of a packet; a frame holds one packet at most.
const MAX_PAYLOAD: usize = 4 << 20;
const PACKET_HEAD: usize = 10;
const FRAME_HEAD: usize = 8;

/// Which of the two services a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    /// Calls of the runtime to the plugin.
    Plugin = 1,
    /// Calls of the plugin to the runtime.
    Runtime = 2,
}

/// What a packet is. Others are of streaming calls, which this interface has none of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A call.
    Request = 1,
    /// Its outcome.
    Response = 2,
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) connection: Connection,
    /// Number of the call.
    pub(super) stream: u32,
    pub(super) kind: Kind,
    pub(super) payload: Bytes,
}

/// The packets that arrive on a socket.
pub(super) struct Packets<S> {
    socket: S,
    arrived: BytesMut,
    plugin: BytesMut,
    runtime: BytesMut,
}

impl<S: AsyncRead + Unpin> Packets<S> {
    pub(super) fn of(socket: S) -> Self {
        Self {
            socket,
            arrived: BytesMut::new(),
            plugin: BytesMut::new(),
            runtime: BytesMut::new(),
        }
    }

    /// The next one; `None` when the other side has hung up. Nothing is lost when it is dropped while it waits.
    pub(super) async fn next(&mut self) -> io::Result<Option<Packet>> {
        loop {
            while self.take_frame()? {}
            for (connection, pending) in [
                (Connection::Plugin, &mut self.plugin),
                (Connection::Runtime, &mut self.runtime),
            ] {
                if let Some(packet) = packet(connection, pending)? {
                    return Ok(Some(packet));
                }
            }
            if self.socket.read_buf(&mut self.arrived).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Moves a whole frame to its connection; those of other connections are nobody's. Whether there was one.
    fn take_frame(&mut self) -> io::Result<bool> {
        let (Some(connection), Some(length)) = (number(&self.arrived, 0), length(&self.arrived, 4)?) else {
            return Ok(false);
        };
        if self.arrived.len() < FRAME_HEAD + length {
            return Ok(false);
        }
        self.arrived.advance(FRAME_HEAD);
        let bytes = self.arrived.split_to(length);
        match connection {
            1 => self.plugin.unsplit(bytes),
            2 => self.runtime.unsplit(bytes),
            _ => {}
        }
        Ok(true)
    }
}

fn packet(connection: Connection, pending: &mut BytesMut) -> io::Result<Option<Packet>> {
    let (Some(length), Some(stream), Some(kind)) = (length(pending, 0)?, number(pending, 4), pending.get(8))
    else {
        return Ok(None);
    };
    let kind = match *kind {
        1 => Kind::Request,
        2 => Kind::Response,
        _ => {
            return Err(io::Error::other(
                "a packet is of a kind that does not belong here",
            ));
        }
    };
    if pending.len() < PACKET_HEAD + length {
        return Ok(None);
    }
    pending.advance(PACKET_HEAD);
    Ok(Some(Packet {
        connection,
        stream,
        kind,
        payload: pending.split_to(length).freeze(),
    }))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn length(bytes: &[u8], at: usize) -> io::Result<Option<usize>> {
    let length = number(bytes, at).map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    match length {
        Some(length) if length > MAX_PAYLOAD + PACKET_HEAD => Err(io::Error::other("a packet is too long")),
        length => Ok(length),
    }
}

/// A packet in a frame of its own.
pub(super) fn encoded(connection: Connection, stream: u32, kind: Kind, payload: &[u8]) -> Vec<u8> {
    let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = Vec::with_capacity(FRAME_HEAD + PACKET_HEAD + payload.len());
    bytes.extend((connection as u32).to_be_bytes());
    bytes.extend(length(PACKET_HEAD + payload.len()));
    bytes.extend(length(payload.len()));
    bytes.extend(stream.to_be_bytes());
    bytes.extend([kind as u8, 0]);
    bytes.extend(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> io::Result<Vec<Packet>> {
        let mut packets = Packets::of(bytes);
        let mut found = Vec::new();
        while let Some(packet) = packets.next().await? {
            found.push(packet);
        }
        Ok(found)
    }

    #[tokio::test]
    async fn packets_are_put_together_however_the_frames_cut_them() {
        let expected = Packet {
            connection: Connection::Plugin,
            stream: 7,
            kind: Kind::Request,
            payload: Bytes::from_static(b"who begins"),
        };
        let whole = encoded(Connection::Plugin, 7, Kind::Request, b"who begins");
        let packet = &whole[FRAME_HEAD..];
        for cut in 0..packet.len() {
            let mut bytes = Vec::new();
            // A frame of another connection between the two pieces.
            for (connection, piece) in [
                (1_u32, &packet[..cut]),
                (2, &[][..]),
                (9, b"x"),
                (1, &packet[cut..]),
            ] {
                bytes.extend(connection.to_be_bytes());
                bytes.extend(u32::try_from(piece.len()).unwrap().to_be_bytes());
                bytes.extend(piece);
            }
            assert_eq!(
                read(&bytes).await.unwrap(),
                std::slice::from_ref(&expected),
                "cut at {cut}"
            );
            assert!(read(&bytes[..bytes.len() - 1]).await.unwrap().is_empty());
        }
    }

    #[tokio::test]
    async fn too_long_and_of_no_known_kind_is_refused() {
        let mut long = encoded(Connection::Runtime, 1, Kind::Response, b"");
        long[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(read(&long).await.is_err());
        let mut streaming = encoded(Connection::Runtime, 1, Kind::Response, b"");
        streaming[FRAME_HEAD + 8] = 3;
        assert!(read(&streaming).await.is_err());
    }
}
