"""What one laboratory adds to drx-screen."""
