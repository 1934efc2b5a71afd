"""How connections come to a Service: by DNS names, and through Ingresses and their controllers."""
