//! What an expression may cost at most. All of it is fixed when the policy is read, but for the sizes of the objects,
//! which are counted before the expression is evaluated.

use crate::policy::condition::inputs::Tally;

/// The longest source, in bytes.
pub(crate) const MAX_SOURCE: usize = 4096;
/// The most words and signs, which the parser may have to nest.
pub(super) const MAX_TOKENS: usize = 600;
/// The deepest nesting of brackets.
pub(super) const MAX_BRACKETS: usize = 32;
/// The most nodes of the syntax tree.
pub(super) const MAX_NODES: usize = 500;
/// The deepest nesting of the syntax tree: evaluating takes a part of the stack for each level.
pub(super) const MAX_HEIGHT: usize = 40;
/// The most comprehensions inside each other.
pub(super) const MAX_NESTING: u32 = 2;
/// The most elements that comprehensions inside each other may visit.
pub(super) const MAX_ELEMENTS: u64 = 20_000;
/// How much longer a value may become than what it is made of.
pub(super) const MAX_GROWTH: u64 = 64;
/// The most bytes that evaluating may have to touch.
const MAX_WORK: u64 = 64 * 1024 * 1024;

/// What one expression multiplies the size of its inputs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// Comprehensions inside each other.
    pub(super) nesting: u32,
    /// How often variables stand in it.
    pub(super) variables: u64,
    /// How much longer a value may become.
    pub(super) growth: u64,
    /// Whether a comprehension's body reads more than the element it is at.
    pub(super) body: Body,
    /// Whether a function goes through a text piece by piece.
    pub(super) text: Text,
    /// How many texts may be put together before that.
    pub(super) joined: u64,
}

/// What functions make of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// They read it once.
    Whole,
    /// A list, which may have an element for each character; or they look for another text at each of its places.
    Pieces,
}

/// What the bodies of comprehensions read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// The element at hand.
    Element,
    /// Variables too.
    Variables,
}

impl Cost {
    /// Whether inputs of this size are within bounds.
    pub(super) fn affords(&self, inputs: Tally) -> bool {
        let (longest, nesting) = match self.text {
            Text::Whole => (inputs.longest.max(1), self.nesting),
            Text::Pieces => (inputs.longest.max(self.pieces(inputs)), self.nesting.max(1)),
        };
        let elements = longest.saturating_pow(nesting);
        let visits = match self.body {
            Body::Variables => elements,
            Body::Element => longest.saturating_pow(nesting.saturating_sub(1)),
        };
        let factors = [self.variables + 1, self.growth, visits];
        let work = factors.into_iter().fold(inputs.bytes, u64::saturating_mul);
        (nesting == 0 || elements <= MAX_ELEMENTS) && work <= MAX_WORK
    }

    /// The most elements that a text can be made into.
    fn pieces(&self, inputs: Tally) -> u64 {
        let factors = [self.joined, self.growth];
        let text = factors.into_iter().fold(inputs.text, u64::saturating_mul);
        text.saturating_add(1)
    }
}

/// Whether the parser may read a text without going too deep: counted without reading it.
pub(super) fn is_shallow(source: &str) -> bool {
    let (mut depth, mut deepest, mut tokens) = (0_usize, 0_usize, 0_usize);
    let (mut unary, mut in_word) = (0_usize, false);
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        unary = match byte {
            b'!' | b'-' => unary + 1,
            byte if byte.is_ascii_whitespace() => unary,
            _ => 0,
        };
        deepest = deepest.max(depth + unary);
        let was_in_word = std::mem::replace(&mut in_word, byte.is_ascii_alphanumeric() || byte == b'_');
        let sign = !in_word && !byte.is_ascii_whitespace();
        tokens += usize::from(sign || (in_word && !was_in_word));
    }
    deepest <= MAX_BRACKETS && tokens <= MAX_TOKENS
}
