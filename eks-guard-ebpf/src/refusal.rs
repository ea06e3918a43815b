//! Where and why the programs refuse: one vocabulary for them, for their counters and for whoever reads those.

/// Where something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// connect().
    Connect = 0,
    /// A datagram that names its own destination.
    Send = 1,
    /// socket().
    Create = 2,
    /// A packet on its way out.
    Packet = 3,
    /// The flow entry of a redirected connection.
    Flow = 4,
    /// A frame on its way from a pod to its node.
    Wire = 5,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Refusal {
    /// The maps were filled for other programs than these, so no lookup can be trusted.
    Abi = 0,
    /// The caller stands in no cgroup on record, or the interface is not on record.
    Unclassified = 1,
    /// The cgroup has no listener in the network of its socket.
    NoListener = 2,
    /// A class these programs do not know.
    UnknownClass = 3,
    /// Not the port of the API server.
    OtherPort = 4,
    /// Not TCP.
    NotTcp = 5,
    /// No room to remember where the socket meant to go.
    Storage = 6,
    /// No room for the flow entry: the listener closes the connection.
    FlowTable = 7,
    /// A kind of socket whose destinations the other hooks do not see.
    SocketKind = 8,
    /// A packet to the API server itself: the other hooks did not see its socket's destination.
    NotRedirected = 9,
    /// A packet that others may have to send on to where its header does not say.
    RoutingHeader = 10,
    /// A packet to an address of which some ports are refused, and its port cannot be read.
    Unreadable = 11,
    /// Not on the agent's allow list.
    NotAllowed = 12,
    /// Infrastructure that the agent's allow list does not open.
    Infrastructure = 13,
    /// A frame that no pod has to send: to loopback, which no wire leads to, or what only routers say.
    Martian = 14,
    /// A frame that is neither IP nor what finds neighbours.
    UnknownProtocol = 15,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Connect,
        Self::Send,
        Self::Create,
        Self::Packet,
        Self::Flow,
        Self::Wire,
    ];

    /// The hook of an event.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| *hook as u16 == number)
    }
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Abi,
        Self::Unclassified,
        Self::NoListener,
        Self::UnknownClass,
        Self::OtherPort,
        Self::NotTcp,
        Self::Storage,
        Self::FlowTable,
        Self::SocketKind,
        Self::NotRedirected,
        Self::RoutingHeader,
        Self::Unreadable,
        Self::NotAllowed,
        Self::Infrastructure,
        Self::Martian,
        Self::UnknownProtocol,
    ];

    /// The reason of an event.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| *refusal as u16 == number)
    }

    /// Whether the guard failed, rather than the caller having asked for what nobody may have.
    #[inline(always)]
    #[must_use]
    pub const fn is_failure(self) -> bool {
        match self {
            Self::Abi
            | Self::Unclassified
            | Self::NoListener
            | Self::UnknownClass
            | Self::Storage
            | Self::FlowTable => true,
            Self::OtherPort
            | Self::NotTcp
            | Self::SocketKind
            | Self::NotRedirected
            | Self::RoutingHeader
            | Self::Unreadable
            | Self::NotAllowed
            | Self::Infrastructure
            | Self::Martian
            | Self::UnknownProtocol => false,
        }
    }
}
