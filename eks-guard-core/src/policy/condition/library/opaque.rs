//! Values of the libraries' own types. CEL compares and copies them; everything else is up to functions.

use std::any::Any;
use std::fmt::Debug;

use cel::common::types::Type;
use cel::common::value::{StaticVal, Val};

/// A type of a library.
pub(in crate::policy::condition) trait Named:
    Clone + Debug + PartialEq + Send + Sync + 'static
{
    /// What CEL calls it.
    const TYPE: &'static Type;
}

/// A value of such a type.
#[derive(Clone, Debug)]
pub(in crate::policy::condition) struct Opaque<T>(pub(in crate::policy::condition) T);

impl<T: Named> Val for Opaque<T> {
    fn get_type(&self) -> &Type {
        T::TYPE
    }

    fn cel_type() -> &'static Type {
        T::TYPE
    }

    fn equals(&self, other: &dyn Val) -> bool {
        other
            .downcast_ref::<Self>()
            .is_some_and(|other| other.0 == self.0)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl<T: Named> StaticVal for Opaque<T> {}
