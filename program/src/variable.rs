//! One variable of a program, as its table has it.
//!
//! What it is: the single source for reading, `--help`, the log line at the start and the program's page. What it is
//! not: it reads nothing; that is [`environment`](crate::environment).

/// What the variables of one program are about, in parts that are shown together.
pub trait Group: Copy + PartialEq + 'static {
    /// All, in the order in which they are shown.
    const ALL: &'static [Self];

    /// What stands above them.
    fn title(self) -> &'static str;

    /// Whether they do anything in this build. What a bad value leads to is not worth a mark otherwise.
    fn has_effect(self) -> bool {
        true
    }
}

/// One variable; `G` is the [`Group`] type of the program.
#[derive(Debug)]
pub struct Variable<G> {
    /// What it is called.
    pub name: &'static str,
    /// Other names for it; the first that is set counts, and the canonical one before all.
    pub aliases: &'static [&'static str],
    /// The default as one would write it; empty where there is none.
    pub default: &'static str,
    /// What holds without a value, where that cannot be written as one.
    pub otherwise: &'static str,
    /// Where it belongs.
    pub group: G,
    /// What it does, in one sentence or two.
    pub meaning: &'static str,
    /// How its value may be shown.
    pub shown: Shown,
    /// What a bad value leads to.
    pub severity: Severity,
}

/// How a value may be shown in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// As it is.
    Plain,
    /// Not at all.
    Never,
    /// As a URL without user, password and query.
    Url,
}

/// What a bad value leads to (rulings 23).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The program does not start.
    Fatal,
    /// A warning, and the default holds: the original did the same without a word.
    Default,
}

impl<G: Copy> Variable<G> {
    /// A variable that the original reads too: a bad value is a warning.
    pub const fn contract(
        name: &'static str,
        default: &'static str,
        group: G,
        meaning: &'static str,
    ) -> Self {
        Self {
            name,
            aliases: &[],
            default,
            otherwise: "",
            group,
            meaning,
            shown: Shown::Plain,
            severity: Severity::Default,
        }
    }

    /// A variable of ours: a bad value is fatal.
    pub const fn new(name: &'static str, default: &'static str, group: G, meaning: &'static str) -> Self {
        Self::contract(name, default, group, meaning).fatal()
    }

    /// With other names.
    #[must_use]
    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// With words for what holds without a value.
    #[must_use]
    pub const fn otherwise(mut self, otherwise: &'static str) -> Self {
        self.otherwise = otherwise;
        self
    }

    /// With another way of showing its value.
    #[must_use]
    pub const fn shown(mut self, shown: Shown) -> Self {
        self.shown = shown;
        self
    }

    /// With a bad value being fatal.
    #[must_use]
    pub const fn fatal(mut self) -> Self {
        self.severity = Severity::Fatal;
        self
    }
}

impl<G> Variable<G> {
    /// The default in words.
    pub const fn default_in_words(&self) -> &'static str {
        if self.default.is_empty() {
            self.otherwise
        } else {
            self.default
        }
    }

    /// Its name and its other names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + use<G> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }
}
