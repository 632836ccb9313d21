//! All variables of one program together.

use crate::variable::{Group, Variable};

/// The table of one program.
#[derive(Debug)]
pub struct Table<G: 'static> {
    /// Every variable, in the order in which they are shown: those of a group stand together.
    pub variables: &'static [&'static Variable<G>],
    /// Variables of the rest of the system: not the program's, and no misspelling of what is.
    pub elsewhere: &'static [&'static str],
}

impl<G: Group> Table<G> {
    /// The variables of one group.
    pub fn of(&self, group: G) -> impl Iterator<Item = &'static Variable<G>> + use<G> {
        let variables = self.variables;
        variables
            .iter()
            .copied()
            .filter(move |variable| variable.group == group)
    }

    /// Every name, aliases included.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + use<G> {
        let variables = self.variables;
        variables.iter().flat_map(|variable| variable.names())
    }

    /// What is wrong with the table itself, one line for each mistake; for the tests of a program.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut names = std::collections::HashSet::new();
        for name in self.names() {
            if !names.insert(name) {
                mistakes.push(format!("{name} is listed twice"));
            }
        }
        for variable in self.variables {
            if !variable.meaning.ends_with('.') {
                mistakes.push(format!("the meaning of {} is no sentence", variable.name));
            }
        }
        let mut order: Vec<_> = self.variables.iter().map(|variable| variable.group).collect();
        order.dedup();
        if order != G::ALL {
            mistakes.push("a group has no variables, or they do not stand together in its order".into());
        }
        mistakes
    }
}
