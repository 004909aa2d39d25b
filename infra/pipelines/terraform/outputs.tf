output "open" {
  value       = data.external.gate.result.open == "true"
  description = "Whether the gate was open; for a precondition of your own"
}

output "answer" {
  value       = data.external.gate.result.answer
  description = "What it said"
}
