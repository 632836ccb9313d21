//! The attribute `RedrivePolicy`: JSON, in which numbers may be strings.

use serde_json::{Value, json};

/// Where messages go after too many receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redrive {
    /// ARN of the dead-letter queue.
    pub(super) target: String,
    /// Receives after which a message goes there.
    pub(super) receives: u32,
}

impl Redrive {
    pub(super) fn read(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let receives = match &value["maxReceiveCount"] {
            Value::String(text) => text.parse().ok()?,
            number => u32::try_from(number.as_u64()?).ok()?,
        };
        let target = value["deadLetterTargetArn"].as_str()?.to_owned();
        Some(Self { target, receives })
    }

    pub(super) fn to_attribute(&self) -> String {
        json!({"deadLetterTargetArn": self.target, "maxReceiveCount": self.receives}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::Redrive;

    #[test]
    fn numbers_are_read_however_the_service_writes_them() {
        for count in ["3", "\"3\""] {
            let text = format!(r#"{{"deadLetterTargetArn": "arn:x", "maxReceiveCount": {count}}}"#);
            let read = Redrive::read(&text).unwrap();
            assert_eq!((read.target.as_str(), read.receives), ("arn:x", 3));
            assert_eq!(Redrive::read(&read.to_attribute()), Some(read));
        }
        for text in [
            "",
            "{}",
            r#"{"deadLetterTargetArn": "arn:x", "maxReceiveCount": "many"}"#,
        ] {
            assert_eq!(Redrive::read(text), None);
        }
    }
}
