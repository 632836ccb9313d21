//! `AsyncActor` manifests, as a person would write them.

use std::fmt::Write as _;

/// One actor.
#[derive(Debug, Clone)]
pub struct Actor {
    name: String,
    handler: String,
    variables: Vec<(String, String)>,
    processing_timeout: Option<u32>,
    retry: Option<String>,
    runtime: Option<String>,
    sidecar_variables: Vec<(String, String)>,
    command: Option<String>,
}

impl Actor {
    /// A Python actor whose handler is `handler`, for example `steps.run`.
    #[must_use]
    pub fn python(name: &str, handler: &str) -> Self {
        Self {
            name: name.into(),
            handler: handler.into(),
            variables: Vec::new(),
            processing_timeout: None,
            retry: None,
            runtime: None,
            sidecar_variables: Vec::new(),
            command: None,
        }
    }

    /// An actor with a native runtime.
    #[must_use]
    pub fn native(name: &str, command: &str) -> Self {
        Self {
            command: Some(command.into()),
            ..Self::python(name, "native.handler")
        }
    }

    /// Its handler gets the whole envelope.
    #[must_use]
    pub fn envelope_mode(self) -> Self {
        self.variable("ASYA_HANDLER_MODE", "envelope")
    }

    /// One more variable of the runtime.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// `spec.timeout.processing` in seconds.
    #[must_use]
    pub fn processing_timeout(mut self, seconds: u32) -> Self {
        self.processing_timeout = Some(seconds);
        self
    }

    /// One more variable of the sidecar.
    #[must_use]
    pub fn sidecar_variable(mut self, name: &str, value: &str) -> Self {
        self.sidecar_variables.push((name.into(), value.into()));
        self
    }

    /// `spec.retry`, as YAML on one line.
    #[must_use]
    pub fn retry(mut self, policy: &str) -> Self {
        self.retry = Some(policy.into());
        self
    }

    /// `spec.runtime`, as YAML on one line.
    #[must_use]
    pub fn runtime(mut self, settings: &str) -> Self {
        self.runtime = Some(settings.into());
        self
    }

    /// The manifest as YAML.
    pub(crate) fn yaml(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("writing to a string does not fail");
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let name = &self.name;
        writeln!(text, "---\napiVersion: asya.sh/v1alpha1\nkind: AsyncActor")?;
        writeln!(text, "metadata:\n  name: {name}\nspec:\n  transport: rabbitmq")?;
        if let Some(seconds) = self.processing_timeout {
            writeln!(text, "  timeout:\n    processing: {seconds}")?;
        }
        if let Some(policy) = &self.retry {
            writeln!(text, "  retry: {policy}")?;
        }
        if let Some(settings) = &self.runtime {
            writeln!(text, "  runtime: {settings}")?;
        }
        if !self.sidecar_variables.is_empty() {
            writeln!(text, "  sidecar:\n    env:")?;
        }
        for (name, value) in &self.sidecar_variables {
            writeln!(text, "    - name: {name}\n      value: {value:?}")?;
        }
        writeln!(text, "  workload:")?;
        if self.command.is_some() {
            writeln!(text, "    runtime: native")?;
        }
        writeln!(text, "    template:\n      spec:\n        containers:")?;
        writeln!(text, "        - name: asya-runtime")?;
        if let Some(command) = &self.command {
            writeln!(text, "          command: [{command:?}]")?;
        }
        writeln!(text, "          env:")?;
        let handler = ("ASYA_HANDLER".to_owned(), self.handler.clone());
        for (name, value) in std::iter::once(&handler).chain(&self.variables) {
            writeln!(text, "          - name: {name}\n            value: {value:?}")?;
        }
        Ok(())
    }
}
