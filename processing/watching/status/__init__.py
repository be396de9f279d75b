"""The status of jobs: polling by Describe and List, shared by all consumers, and events from EventBridge."""
