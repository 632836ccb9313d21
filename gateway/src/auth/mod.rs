//! Who may do what: nobody is asked, bearer keys, or tokens of an identity provider.

mod caller;

pub use caller::{Caller, Role};
