"""The field's names for serializers, over clew's one codec (`clew.serde`)."""
