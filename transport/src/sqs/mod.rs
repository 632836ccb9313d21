//! Amazon SQS: administration of queues.
