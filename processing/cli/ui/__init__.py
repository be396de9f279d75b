"""The engine's jobs and endpoints in a browser: `processing local ui`. Every page only reads."""
