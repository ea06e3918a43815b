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
pub(super) const MAX_WORK: u64 = 64 * 1024 * 1024;

/// How often sorting goes over each element of the longest list that it may have.
const SORTING: u64 = 16;

/// What one expression multiplies the size of its inputs with.
#[derive(Clone, Debug)]
pub(super) struct Cost {
    /// Everything that goes through a list.
    pub(super) loops: Vec<Loop>,
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
    /// How many lists may be put together before they are gone through.
    pub(super) chained: u64,
    /// Whether lists of lists become one.
    pub(super) lists: Lists,
    /// Whether lists are sorted.
    pub(super) order: Order,
    /// What is written in it: there whatever the inputs are.
    pub(super) written: Tally,
}

/// Something that goes through a list, inside others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loop {
    /// How often it begins.
    pub(super) around: Length,
    /// How many elements it visits in all.
    pub(super) whole: Length,
}

/// How long a list may be, while nobody knows the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Length {
    /// So many times
    factor: u64,
    /// the length of the longest list there is, to this power,
    lists: u32,
    /// and so often how much longer putting lists together makes one.
    made: u32,
}

impl Length {
    /// One element.
    pub(super) const ONE: Self = Self::of(1, 0, 0);
    /// A list of the inputs.
    pub(super) const LIST: Self = Self::of(1, 1, 0);
    /// Any list, also one that was put together.
    pub(super) const MADE: Self = Self::of(1, 1, 1);

    const fn of(factor: u64, lists: u32, made: u32) -> Self {
        Self { factor, lists, made }
    }

    /// A list that is written out.
    pub(super) fn written(elements: usize) -> Self {
        Self::of(u64::try_from(elements).unwrap_or(u64::MAX).max(1), 0, 0)
    }

    /// One after the other.
    pub(super) fn plus(self, other: Self) -> Self {
        let factor = self.factor.saturating_add(other.factor);
        Self::of(factor, self.lists.max(other.lists), self.made.max(other.made))
    }

    /// One of both.
    pub(super) fn or(self, other: Self) -> Self {
        let factor = self.factor.max(other.factor);
        Self::of(factor, self.lists.max(other.lists), self.made.max(other.made))
    }

    /// One inside the other.
    pub(super) fn times(self, other: Self) -> Self {
        let factor = self.factor.saturating_mul(other.factor);
        Self::of(factor, self.lists + other.lists, self.made + other.made)
    }

    fn elements(self, longest: u64, stretch: u64) -> u64 {
        let lists = longest.max(1).saturating_pow(self.lists);
        let made = stretch.saturating_pow(self.made);
        self.factor.saturating_mul(lists).saturating_mul(made)
    }
}

/// What functions make of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// They read it once.
    Whole,
    /// A list, which may have an element for each character; or they look for another text at each of its places.
    Pieces,
}

/// What functions make of lists of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lists {
    /// They stay what they are.
    Kept,
    /// One list.
    Flattened,
}

/// What functions make of the order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// It stays as it is.
    Kept,
    /// They sort it.
    Sorted,
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
    /// Of nothing.
    pub(super) fn none() -> Self {
        Self {
            loops: Vec::new(),
            variables: 0,
            growth: 1,
            body: Body::Element,
            text: Text::Whole,
            joined: 1,
            chained: 1,
            lists: Lists::Kept,
            order: Order::Kept,
            written: Tally::default(),
        }
    }

    /// Whether inputs of this size are within bounds.
    pub(super) fn affords(&self, inputs: Tally) -> bool {
        self.elements(inputs) <= MAX_ELEMENTS && self.work(inputs) <= MAX_WORK
    }

    /// The most elements that something which goes through lists visits in all.
    pub(super) fn elements(&self, inputs: Tally) -> u64 {
        self.most(inputs, |it| it.whole)
    }

    /// The most bytes that evaluating touches.
    pub(super) fn work(&self, inputs: Tally) -> u64 {
        let visits = match self.body {
            Body::Variables => self.elements(inputs),
            Body::Element => self.most(inputs, |it| it.around),
        };
        let sorting = match self.order {
            Order::Kept => 1,
            Order::Sorted => SORTING,
        };
        let factors = [self.variables + 1, self.growth, visits, sorting];
        let bytes = inputs.and(self.written).bytes;
        factors.into_iter().fold(bytes, u64::saturating_mul)
    }

    /// The greatest of the lengths that loops have.
    fn most(&self, inputs: Tally, length: fn(&Loop) -> Length) -> u64 {
        let values = inputs.and(self.written);
        let lists = match self.lists {
            Lists::Kept => values.longest,
            Lists::Flattened => values.values,
        };
        let longest = match self.text {
            Text::Whole => lists,
            Text::Pieces => lists.max(self.pieces(values)),
        };
        let stretch = match self.chained {
            1 => 1,
            chained => chained.saturating_mul(self.growth),
        };
        let elements = self.loops.iter().map(|it| length(it).elements(longest, stretch));
        elements.max().unwrap_or(1)
    }

    /// The most elements that a text can be made into.
    fn pieces(&self, values: Tally) -> u64 {
        let factors = [self.joined, self.growth];
        let text = factors.into_iter().fold(values.text, u64::saturating_mul);
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
