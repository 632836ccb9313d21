//! Guards what peers of other versions rely on: field numbers, types, names of services and methods.

#![expect(clippy::unwrap_used, reason = "tests, helpers included")]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use asya_proto::FILE_DESCRIPTOR_SET;
use asya_proto::status::v1::{
    EnvelopeReport, EnvelopeUpdate, FinalReport, HopPhase, HopProgress, ReportEnvelopesRequest, Route,
    SucceededResult, envelope_report, final_report, report_envelopes_request,
};
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
};

const PACKAGE: &str = "asya.status.v1";

fn own_files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let own: Vec<_> = set
        .file
        .into_iter()
        .filter(|file| file.package() == PACKAGE)
        .collect();
    assert!(!own.is_empty(), "no file of {PACKAGE} among the descriptors");
    own
}

/// A change of a line or its removal breaks peers of other versions; a new line does not.
#[test]
fn the_wire_format_changes_only_on_purpose() {
    let mut listing = String::new();
    for file in own_files() {
        for service in &file.service {
            for method in &service.method {
                writeln!(listing, "rpc {}.{}", service.name(), method_line(method)).unwrap();
            }
        }
        for message in &file.message_type {
            assert!(
                message.nested_type.is_empty(),
                "{}: list nested messages here first",
                message.name()
            );
            listing.extend(message.field.iter().map(|field| field_line(message, field)));
        }
        for values in &file.enum_type {
            listing.extend(
                values
                    .value
                    .iter()
                    .map(|value| format!("enum {} = {}.{}\n", value.number(), values.name(), value.name())),
            );
        }
    }
    insta::assert_snapshot!("wire", listing);
}

fn method_line(method: &MethodDescriptorProto) -> String {
    let stream = |is: bool| if is { "stream " } else { "" };
    format!(
        "{}({}{}) returns ({}{})",
        method.name(),
        stream(method.client_streaming()),
        method.input_type(),
        stream(method.server_streaming()),
        method.output_type(),
    )
}

fn field_line(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let label = match field.label() {
        Label::Repeated => "repeated ",
        _ if field.proto3_optional() => "optional ",
        _ if field.oneof_index.is_some() => "oneof ",
        _ => "",
    };
    let scalar = field
        .r#type()
        .as_str_name()
        .trim_start_matches("TYPE_")
        .to_lowercase();
    let kind = match field.r#type() {
        Type::Message | Type::Enum => field.type_name(),
        _ => &scalar,
    };
    format!(
        "field {}.{} = {} {label}{kind}\n",
        message.name(),
        field.name(),
        field.number()
    )
}

/// Proto3 demands a zero value; it must mean "not said", so that an absent field never looks like a statement.
#[test]
fn every_enum_has_an_unspecified_zero_and_unique_numbers() {
    let mut enums = 0;
    for values in own_files().iter().flat_map(|file| &file.enum_type) {
        enums += 1;
        let zero = zero_value_name(values);
        assert!(zero.ends_with("_UNSPECIFIED"), "{}: 0 is {zero}", values.name());
        let numbers: BTreeSet<_> = values
            .value
            .iter()
            .map(EnumValueDescriptorProto::number)
            .collect();
        assert_eq!(
            numbers.len(),
            values.value.len(),
            "{}: a number is used twice",
            values.name()
        );
    }
    assert!(enums > 0, "no enum found");
}

fn zero_value_name(values: &EnumDescriptorProto) -> String {
    values
        .value
        .iter()
        .find(|value| value.number() == 0)
        .map_or("missing", |value| value.name())
        .to_owned()
}

#[test]
fn field_numbers_are_unique_and_not_reserved() {
    let mut fields = 0;
    for message in own_files().iter().flat_map(|file| &file.message_type) {
        let mut taken = BTreeSet::new();
        for field in &message.field {
            fields += 1;
            let number = field.number();
            assert!(taken.insert(number), "{}: {number} is used twice", message.name());
            let reserved = message
                .reserved_range
                .iter()
                .any(|range| (range.start()..range.end()).contains(&number));
            assert!(
                !reserved,
                "{}.{}: {number} is reserved",
                message.name(),
                field.name()
            );
        }
    }
    assert!(fields > 0, "no field found");
}

#[test]
fn a_report_survives_the_wire_with_its_json_byte_for_byte() {
    let result = r#"{"big":123456789012345678901234567890,"exp":1e400,"b":1,"a":"Ünï\ud800"}"#;
    let report = EnvelopeReport {
        sequence: u64::MAX,
        envelope_id: "5f0c-1".to_owned(),
        attempt: 2,
        step: 4,
        occurred_at: Some(prost_types::Timestamp {
            seconds: 1_790_000_000,
            nanos: 999_999_999,
        }),
        event: Some(envelope_report::Event::Final(FinalReport {
            result: Some(final_report::Result::Succeeded(SucceededResult {
                result_json: Some(result.to_owned()),
                stored_at: "file:///results/happy-asya/x.json".to_owned(),
            })),
            route: Some(Route {
                actors: vec!["split".to_owned(), "clean".to_owned()],
                current: 2,
            }),
        })),
    };
    let request = ReportEnvelopesRequest {
        kind: Some(report_envelopes_request::Kind::Report(report)),
    };

    let decoded = ReportEnvelopesRequest::decode(request.encode_to_vec().as_slice()).unwrap();

    assert_eq!(decoded, request);
}

/// Peers of a later version may send what this one does not know.
#[test]
fn unknown_fields_and_enum_values_are_tolerated() {
    let mut bytes = EnvelopeUpdate {
        envelope_id: "x".to_owned(),
        ..Default::default()
    }
    .encode_to_vec();
    bytes.extend([0x50, 0x63]); // field 10 (phase), value 99
    bytes.extend([0x98, 0x06, 0x01]); // field 99, varint 1

    let update = EnvelopeUpdate::decode(bytes.as_slice()).unwrap();

    assert_eq!(update.envelope_id, "x");
    assert_eq!(HopPhase::try_from(update.phase).ok(), None);
    assert_eq!(
        update.phase(),
        HopPhase::Unspecified,
        "an unknown value reads as unspecified"
    );
}

#[test]
fn an_empty_message_says_nothing() {
    let progress = HopProgress::decode([].as_slice()).unwrap();
    assert_eq!(progress.phase(), HopPhase::Unspecified);
    assert_eq!(progress.message_bytes, None, "absent differs from zero");
}
