"""One job: launch, submission, `ProcessingJob`, outcome and waits; `fleet` has many jobs of one kind."""
